//! A reader: follows a stream at its own pace.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::SystemTime,
};

use pfs_proto::{End, Peer, SlowPolicy};

use crate::{
    ReadError, Sink,
    ring::{Position, RingReader},
    stream::Shared,
    sync::{Arc, AtomicU64, Ordering, lock},
    wait::Ticket,
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

/// What others can see of a reader. Only the reader writes it.
#[derive(Debug)]
pub(crate) struct ReaderState {
    pub(crate) peer: Peer,
    pub(crate) policy: SlowPolicy,
    pub(crate) since: SystemTime,
    pub(crate) start: u64,
    offset: AtomicU64,
    seq: AtomicU64,
    lost_bytes: AtomicU64,
    lost_chunks: AtomicU64,
}

impl ReaderState {
    pub(crate) fn new(peer: Peer, policy: SlowPolicy, at: Position) -> Self {
        Self {
            peer,
            policy,
            since: SystemTime::now(),
            start: at.offset,
            offset: AtomicU64::new(at.offset),
            seq: AtomicU64::new(at.seq),
            lost_bytes: AtomicU64::new(0),
            lost_chunks: AtomicU64::new(0),
        }
    }

    /// The chunk that it reads next. Acquire: what the reader copied before it said so may be overwritten.
    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub(crate) fn position(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn lost_chunks(&self) -> u64 {
        self.lost_chunks.load(Ordering::Relaxed)
    }
}

/// Follows a stream: history, then live. Takes no lock to read and is never waited for, unless its
/// policy is [`SlowPolicy::Block`].
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cursor: Cursor,
    ticket: Ticket,
}

/// The place in the ring, and what others can see of it.
#[derive(Debug)]
struct Cursor {
    ring: RingReader,
    state: Arc<ReaderState>,
}

impl Cursor {
    fn try_read(
        &mut self,
        shared: &Shared,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Option<Read>, ReadError> {
        let read = self.ring.try_read(sink, max_bytes)?;
        match read {
            None | Some(Read::End(_)) => return Ok(read),
            Some(Read::Gap { from, to, chunks }) => {
                self.state.lost_bytes.fetch_add(to - from, Ordering::Relaxed);
                self.state.lost_chunks.fetch_add(chunks, Ordering::Relaxed);
                shared.lost_bytes.fetch_add(to - from, Ordering::Relaxed);
            }
            Some(Read::Data { .. }) => {}
        }
        self.state.offset.store(self.ring.offset, Ordering::Relaxed);
        self.state.seq.store(self.ring.seq, Ordering::Release);
        if self.ring.policy == SlowPolicy::Block {
            shared.room.wake_all();
        }
        Ok(read)
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, ring: RingReader, state: Arc<ReaderState>) -> Self {
        Self { shared, cursor: Cursor { ring, state }, ticket: Ticket::default() }
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
        let Self { shared, cursor, ticket } = self;
        shared.news.poll(ticket, cx, || cursor.try_read(shared, sink, max_bytes).transpose())
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
        self.cursor.try_read(&self.shared, sink, max_bytes)
    }

    /// The offset where it started.
    pub fn start(&self) -> u64 {
        self.cursor.state.start
    }

    /// The offset that it reads next.
    pub fn position(&self) -> u64 {
        self.cursor.ring.offset
    }

    /// Where head was when it attached.
    pub fn head_at_attach(&self) -> u64 {
        self.cursor.ring.head_at_attach
    }

    /// Bytes that it was told it lost.
    pub fn lost_bytes(&self) -> u64 {
        self.cursor.state.lost_bytes()
    }

    /// Chunks that it was told it lost.
    pub fn lost_chunks(&self) -> u64 {
        self.cursor.state.lost_chunks()
    }

    /// Media type of the stream's contents.
    pub fn content_type(&self) -> Option<&str> {
        self.shared.config.content_type.as_deref()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.news.leave(&mut self.ticket);
        lock(&self.shared.readers).retain(|reader| !Arc::ptr_eq(reader, &self.cursor.state));
        self.shared.reader_count.fetch_sub(1, Ordering::SeqCst);
        self.shared.room.wake_all();
    }
}
