//! Reader of a stream: a cursor that follows the stream at its own pace.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use pfs_proto::{Event, Identity, SlowPolicy};

use crate::{
    Extent, ReadError,
    batch::{BATCH, Batch},
    membership::Membership,
    read::{Most, Read},
    ring::RingReader,
    sink::Sink,
    state::Shared,
    sync::{Arc, lock},
    wait::Ticket,
};

/// Follows a stream: history first, then live. Reading takes no lock. Writers wait for a reader
/// only if its policy is [`SlowPolicy::Block`].
#[derive(Debug)]
pub struct Reader {
    pub(crate) membership: Membership,
    ring: RingReader,
    /// The stream's extent when the reader attached.
    held: Extent,
    sleep: Sleep,
    /// Chunks that were taken out of the ring buffer for events and not returned yet.
    pub(crate) batch: Batch,
}

/// A reader's place in the queue of sleeping readers, given back on drop.
#[derive(Debug)]
struct Sleep {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.shared.news.leave(&mut self.ticket);
    }
}

/// Continues in the next ring of the stream. Returns false if there is none.
#[cold]
fn follow(membership: &Membership, ring: &mut RingReader) -> bool {
    let mut append = lock(&membership.shared.append);
    let next = append.ring_with(ring.seq).clone();
    let is_another = !next.is_same(&ring.ring);
    let forgotten = append.forget_skipped(&membership.shared);
    drop(append);
    // Replace the ring outside the append lock: freeing the old ring can take milliseconds.
    (ring.ring, _) = (next, forgotten);
    is_another
}

/// Performs one read, records it in the stats, and wakes writers that wait for this reader.
fn try_read(
    membership: &Membership,
    ring: &mut RingReader,
    sink: &mut impl Sink,
    most: Most,
) -> Result<Option<Read>, ReadError> {
    let status = ring.ring.status();
    if status.moved() && !status.skipped() {
        follow(membership, ring);
    }
    let mut read = ring.try_read(sink, most)?;
    // The status of a corrupt ring may say so of a ring that the stream has not left.
    while read.is_none() && ring.has_to_skip() && follow(membership, ring) {
        read = ring.try_read(sink, most)?;
    }
    if read.is_none() && ring.asks_to_be_told() {
        read = ring.try_read(sink, most)?;
    }
    if let Some(read @ (Read::Data { .. } | Read::Gap { .. })) = read {
        let stats = &membership.state.stats;
        // Bytes of a partly read chunk are counted when the chunk ends: no counter may decrease.
        stats.record(read, ring.settled());
        if ring.policy == SlowPolicy::Block && stats.is_wanted(ring.position()) {
            membership.shared.room.wake_all();
        }
        if let Read::Gap { from, to, chunks } = read {
            membership.tell_gap(from, to, chunks);
        }
    }
    Ok(read)
}

/// Result of a read into a batch.
#[derive(Debug)]
pub(crate) enum Taken {
    /// At least one chunk was put into the batch.
    Chunks,
    /// A gap or the end.
    Event(Event),
}

/// Performs one read into an empty batch.
fn take_batch(
    membership: &Membership,
    ring: &mut RingReader,
    batch: &mut Batch,
) -> Result<Option<Taken>, ReadError> {
    batch.begin();
    let Some(read) = try_read(membership, ring, batch, BATCH)? else {
        return Ok(None);
    };
    batch.end();
    Ok(Some(match read {
        Read::Data { .. } => Taken::Chunks,
        Read::Gap { from, to, chunks } => Taken::Event(Event::Gap { from, to, chunks }),
        Read::End(reason) => Taken::Event(Event::End { reason, offset: ring.offset }),
    }))
}

impl Reader {
    pub(crate) fn new(membership: Membership, ring: RingReader, held: Extent) -> Self {
        let sleep = Sleep { shared: Arc::clone(&membership.shared), ticket: Ticket::default() };
        Self { membership, ring, held, sleep, batch: Batch::default() }
    }

    /// Returns true if the reader has data to read that is not in a shareable ring buffer.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn is_local(&self) -> bool {
        self.ring.ring.holds() || !self.batch.is_empty()
    }

    /// Takes the reader apart without detaching it. The reader leaves the queue of sleeping
    /// readers, and never enters it again.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn into_parts(self) -> (Membership, RingReader) {
        (self.membership, self.ring)
    }

    /// Waits for data, and adds at most about `max_bytes` of it to `sink`, for example a `Vec<u8>`:
    /// whole chunks, at least one. After an end or an error, every call returns the same result.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or the reader was too slow for its policy.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has taken nothing.
    pub async fn read(
        &mut self,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        poll_fn(|cx| self.poll_read(cx, sink, max_bytes)).await
    }

    /// Polls for data, for hand-written futures. Otherwise like [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or the reader was too slow for its policy.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Poll<Result<Read, ReadError>> {
        let Self { membership, ring, sleep: Sleep { shared, ticket }, batch, .. } = self;
        if let Some(read) = batch.pour(sink, max_bytes) {
            return Poll::Ready(Ok(read));
        }
        shared
            .news
            .poll(ticket, cx, || try_read(membership, ring, sink, max_bytes.into()).transpose())
    }

    /// Takes the next batch or event, once every chunk taken before was returned. Not inlined, so
    /// that returning a chunk from the batch stays small enough to be inlined into the caller.
    #[inline(never)]
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, ReadError>> {
        let Self { membership, ring, sleep: Sleep { shared, ticket }, batch, .. } = self;
        shared.news.poll(ticket, cx, || take_batch(membership, ring, batch).transpose())
    }

    /// Like [`poll_batch`](Self::poll_batch), but does not wait.
    pub(crate) fn try_batch(&mut self) -> Result<Option<Taken>, ReadError> {
        take_batch(&self.membership, &mut self.ring, &mut self.batch)
    }

    /// Like [`read`](Self::read), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or the reader was too slow for its policy.
    pub fn read_blocking(
        &mut self,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        pollster::block_on(self.read(sink, max_bytes))
    }

    /// Like [`read`](Self::read), but does not wait: `None` at the live edge.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or the reader was too slow for its policy.
    pub fn try_read(
        &mut self,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Option<Read>, ReadError> {
        match self.batch.pour(sink, max_bytes) {
            Some(read) => Ok(Some(read)),
            None => try_read(&self.membership, &mut self.ring, sink, max_bytes.into()),
        }
    }

    /// The offset where the reader started.
    pub fn start(&self) -> u64 {
        self.membership.state.start
    }

    /// Looks ahead in a chunk that is being read in [parts](crate::Sink::takes_parts), without
    /// moving the reader: adds to `bytes` at most `most` bytes that follow `offset`. `None` if
    /// those bytes were overwritten (a gap comes next), if no chunk is being read in parts, or if
    /// `offset` is behind the reader.
    #[cfg(feature = "host")]
    pub fn peek(&self, offset: u64, most: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        self.ring.peek(offset, most, bytes)
    }

    /// The offset that the reader reads next; inside a chunk while a sink takes it in parts.
    pub fn position(&self) -> u64 {
        self.ring.offset.saturating_sub(self.batch.bytes())
    }

    /// The offset of head when the reader attached.
    pub fn head_at_attach(&self) -> u64 {
        self.ring.head_at_attach
    }

    /// The stream's extent when the reader attached: where its history began, and whether it was
    /// closed already. A snapshot of one moment, taken from the stream that this reader follows.
    pub fn extent_at_attach(&self) -> Extent {
        self.held
    }

    /// Bytes in all gaps that the reader was told of.
    pub fn lost_bytes(&self) -> u64 {
        self.membership.state.stats.lost_bytes()
    }

    /// Chunks in all gaps that the reader was told of.
    pub fn lost_chunks(&self) -> u64 {
        self.membership.state.stats.lost_chunks()
    }

    /// The identity of the stream that this reader follows.
    pub fn identity(&self) -> Identity {
        self.membership.shared.identity
    }

    /// Number of writers that had died before the first of the writers attached now (or last)
    /// joined. A reader that stops with the last writer reports only later deaths.
    pub fn deaths_before(&self) -> u64 {
        self.ring.deaths_before
    }

    /// What happens to this reader when it cannot keep up.
    pub fn policy(&self) -> SlowPolicy {
        self.ring.policy
    }

    /// Media type of the stream's contents.
    pub fn content_type(&self) -> Option<&str> {
        self.membership.shared.content_type()
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use pfs_proto::ReadOptions;
    use proptest::prelude::*;

    use super::*;
    use crate::{Stream, StreamConfig};

    proptest! {
        #[test]
        fn a_read_takes_as_many_whole_chunks_as_fit_and_at_least_one(
            before in 0usize..1023, sizes in prop::collection::vec(1usize..40, 1..700), most in 1usize..9000,
        ) {
            let size = 64 * 1024;
            let config = StreamConfig { ring_buffer_size: size, channel_buffer_size: size, ..Default::default() };
            let stream = Stream::new("s", config).unwrap();
            let mut writer = stream.writer().unwrap();
            // Moves the start, so that the following index entries wrap around.
            for _ in 0..before {
                writer.try_append(b"x").unwrap();
            }
            let mut reader = stream.reader(ReadOptions { start: pfs_proto::Start::New, ..Default::default() }).unwrap();
            let mut expected = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let chunk = vec![number as u8; *size];
                writer.try_append(&chunk).unwrap();
                expected.extend(chunk);
            }
            let mut rest = &sizes[..];
            let mut all = Vec::new();
            while !rest.is_empty() {
                let (mut chunks, mut bytes) = (1, rest[0]);
                while chunks < rest.len() && bytes + rest[chunks] <= most {
                    (chunks, bytes) = (chunks + 1, bytes + rest[chunks]);
                }
                prop_assert_eq!(reader.try_read(&mut all, most), Ok(Some(Read::Data { chunks, bytes })));
                rest = &rest[chunks..];
            }
            prop_assert_eq!(all, expected);
        }
    }
}
