//! A reader: follows a stream at its own pace.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use pfs_proto::{End, SlowPolicy};

use crate::{
    ReadError, Sink, membership::Membership, ring::RingReader, stream::Shared, sync::Arc, wait::Ticket,
};

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Whole chunks were added to the sink.
    Data {
        /// How many, at least one.
        chunks: usize,
        /// How many bytes, headers that the sink added not counted.
        bytes: usize,
    },
    /// These offsets will never come, because the ring moved past them.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost; 0 where that is not known, because the reader asked for a
        /// place that was gone when it attached.
        chunks: u64,
    },
    /// Nothing more comes.
    End(End),
}

/// Follows a stream: history, then live. Takes no lock to read and is never waited for, unless its
/// policy is [`SlowPolicy::Block`].
#[derive(Debug)]
pub struct Reader {
    membership: Membership,
    ring: RingReader,
    sleep: Sleep,
}

/// A reader's place among the sleepers, given back when it goes.
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

/// One read, recorded, and told to writers that wait for this reader.
fn try_read(
    membership: &Membership,
    ring: &mut RingReader,
    sink: &mut impl Sink,
    max_bytes: usize,
) -> Result<Option<Read>, ReadError> {
    let read = ring.try_read(sink, max_bytes)?;
    if let Some(read @ (Read::Data { .. } | Read::Gap { .. })) = read {
        membership.state.figures.record(read, ring.position());
        if ring.policy == SlowPolicy::Block {
            membership.shared.room.wake_all();
        }
    }
    Ok(read)
}

impl Reader {
    pub(crate) fn new(membership: Membership, ring: RingReader) -> Self {
        let sleep = Sleep { shared: Arc::clone(&membership.shared), ticket: Ticket::default() };
        Self { membership, ring, sleep }
    }

    /// Awake for good, and still attached.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn into_parts(self) -> (Membership, RingReader) {
        (self.membership, self.ring)
    }

    /// Waits for what comes next, and takes at most about `max_bytes` of it: whole chunks, at least one.
    ///
    /// After an end or an error, the same comes again. Cancel safe: dropped before it is done, it has
    /// taken nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or the reader was too slow for its policy.
    pub async fn read(&mut self, sink: &mut impl Sink, max_bytes: usize) -> Result<Read, ReadError> {
        poll_fn(|cx| self.poll_read(cx, sink, max_bytes)).await
    }

    /// As [`read`](Self::read), for futures written by hand.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Poll<Result<Read, ReadError>> {
        let Self { membership, ring, sleep: Sleep { shared, ticket } } = self;
        shared.news.poll(ticket, cx, || try_read(membership, ring, sink, max_bytes).transpose())
    }

    /// As [`read`](Self::read), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_blocking(&mut self, sink: &mut impl Sink, max_bytes: usize) -> Result<Read, ReadError> {
        pollster::block_on(self.read(sink, max_bytes))
    }

    /// As [`read`](Self::read), but does not wait: `None` at the live edge.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_read(&mut self, sink: &mut impl Sink, max_bytes: usize) -> Result<Option<Read>, ReadError> {
        try_read(&self.membership, &mut self.ring, sink, max_bytes)
    }

    /// The offset where it started.
    pub fn start(&self) -> u64 {
        self.membership.state.start
    }

    /// The offset that it reads next.
    pub fn position(&self) -> u64 {
        self.ring.offset
    }

    /// Where head was when it attached.
    pub fn head_at_attach(&self) -> u64 {
        self.ring.head_at_attach
    }

    /// Bytes that it was told it lost.
    pub fn lost_bytes(&self) -> u64 {
        self.membership.state.figures.lost_bytes()
    }

    /// Chunks that it was told it lost.
    pub fn lost_chunks(&self) -> u64 {
        self.membership.state.figures.lost_chunks()
    }

    /// Which of all the streams that were made in this process it reads: one that is removed and made anew under the same name
    /// is another one.
    pub fn stream_number(&self) -> u64 {
        self.membership.shared.number
    }

    /// Writers that had died before those whose end it sees.
    pub fn deaths_before(&self) -> u64 {
        self.ring.deaths_before
    }

    /// Media type of the stream's contents.
    pub fn content_type(&self) -> Option<&str> {
        self.membership.shared.config.content_type.as_deref()
    }
}
