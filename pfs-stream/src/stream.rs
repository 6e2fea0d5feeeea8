//! A stream: a ring, who is attached to it, and how it ends.

use std::{
    future::{Future, poll_fn},
    time::SystemTime,
};

use pfs_proto::{Identity, Peer, ReadOptions, SlowPolicy, Start, StreamEvent, StreamStat, StreamSummary};

use crate::{
    AttachError, CreateError, Extent, Reader, Reservation, StreamConfig, Writer, clock,
    events::{Events, Watchers},
    figures::Figures,
    kept::Kept,
    lifetime::Lifetime,
    membership::{Membership, ReaderState},
    ring::{Layout, MAX_SIZE, Position, Ring, RingReader, RingWriter, Status},
    stat,
    sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
    totals::Gone,
    wait::{Ticket, WaitQueue},
    writer::WriterState,
};

/// Streams made in this process so far.
static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// A named, append-only sequence of bytes in memory. Clones are handles to the same stream.
///
/// ```
/// # use pfs_stream::*;
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut writer = stream.writer(Peer::default())?;
/// let mut reader = stream.reader(ReadOptions::default(), Peer::default())?;
/// writer.try_append(b"hello")?;
/// writer.finish_and_close();
///
/// let mut bytes = Vec::new();
/// assert_eq!(reader.try_read(&mut bytes, 1024)?, Some(Read::Data { chunks: 1, bytes: 5 }));
/// assert_eq!(reader.try_read(&mut bytes, 1024)?, Some(Read::End(End::Closed)));
/// assert_eq!(bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles of a stream share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// Which stream it is, for names are used again.
    pub(crate) identity: Identity,
    pub(crate) config: StreamConfig,
    pub(crate) ring: Ring,
    pub(crate) created: SystemTime,
    /// The one short lock of an append. Nobody holds it while copying out, waiting or waking.
    pub(crate) append: Mutex<Appending>,
    /// Taken after `append` where both are needed; a reader takes it to attach and to leave.
    pub(crate) readers: Mutex<Vec<Arc<ReaderState>>>,
    pub(crate) reader_count: AtomicUsize,
    /// Readers that are in other processes.
    pub(crate) mapped: AtomicUsize,
    /// Bytes that readers who have left were told they lost. Written under `readers`, when one leaves.
    pub(crate) lost_before: AtomicU64,
    /// Where those who leave add up what they did.
    pub(crate) gone: std::sync::Arc<Gone>,
    /// Readers that wait for something to read.
    pub(crate) news: WaitQueue,
    /// Writers that wait for a `block` reader to make room.
    pub(crate) room: WaitQueue,
    /// Writers that wait for readers to attach.
    pub(crate) joins: WaitQueue,
    /// Tasks that wait for the stream to take no more appends, or to be removed. Woken only for that.
    pub(crate) ends: WaitQueue,
    /// Those who are told what happens to the stream. Apart, so that they keep nothing of a removed stream's memory.
    pub(crate) watchers: std::sync::Arc<Watchers>,
    pub(crate) lifetime: Lifetime,
    /// What its host keeps about it.
    pub(crate) kept: Kept,
    /// What this stream takes of its registry's memory and descriptors. Given back when the last handle is gone, or the stream
    /// was removed and is read by no other process.
    reserved: Mutex<[Option<Reservation>; 2]>,
}

/// What only one writer at a time may touch.
#[derive(Debug)]
pub(crate) struct Appending {
    pub(crate) ring: RingWriter,
    pub(crate) status: Status,
    /// Deaths before the first of the writers attached now (or last) joined.
    pub(crate) deaths_before: u64,
    pub(crate) finished: u64,
    /// Time of the newest chunk, or when the stream was made; times never go back, whatever the clock does.
    pub(crate) newest: u64,
    /// No `block` reader was at a chunk before this one when last looked; they only move on.
    pub(crate) block_floor: u64,
    pub(crate) writers: Vec<Arc<WriterState>>,
    /// Writers that wait for room now.
    pub(crate) waiting: usize,
    /// The chunk that `block` readers must reach before the last append that found no room can go on.
    pub(crate) refused: u64,
}

impl Appending {
    /// When the newest chunk was appended, if any was.
    pub(crate) fn last_append(&self) -> Option<u64> {
        (self.ring.head().seq > 0).then_some(self.newest)
    }
}

/// The layout of a stream's ring, once its sizes are found to be possible.
pub(crate) fn layout(config: &StreamConfig) -> Result<Layout, CreateError> {
    for size in [config.ring_buffer_size, config.channel_buffer_size] {
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(CreateError::BadSize { size, max: MAX_SIZE });
        }
    }
    Ok(Layout::new(config.ring_buffer_size.max(config.channel_buffer_size)))
}

impl Stream {
    /// Makes a stream that belongs to no registry.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`] and [`CreateError::OutOfMemory`].
    pub fn new(name: &str, config: StreamConfig) -> Result<Self, CreateError> {
        let layout = layout(&config)?;
        Ok(Self::with_layout(name, config, Ring::new(layout)?, [None, None], None, std::sync::Arc::default()))
    }

    /// Makes a stream for this process alone: chunks of 4 KiB and more are held by reference, so that neither
    /// appending [`Bytes`](bytes::Bytes) nor reading them copies anything, however many read. It keeps every promise of
    /// any other stream, except that its readers can't be handed out to other processes.
    ///
    /// What it holds is bounded by its ring and an eighth more, counted in bytes of chunks: a chunk that has left the ring is
    /// let go of a little later, because nobody waits for a reader that may be taking it. `Bytes` that are a small part of
    /// something large keep all of that. A reader that is asked for events takes up to 64 chunks at once, of 2 MiB together or
    /// a single one, and keeps those that it has not handed on.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`] and [`CreateError::OutOfMemory`].
    pub fn local(name: &str, config: StreamConfig) -> Result<Self, CreateError> {
        let layout = layout(&config)?;
        Ok(Self::with_layout(
            name,
            config,
            Ring::holding(layout)?,
            [None, None],
            None,
            std::sync::Arc::default(),
        ))
    }

    pub(crate) fn with_layout(
        name: &str,
        config: StreamConfig,
        ring: Ring,
        reserved: [Option<Reservation>; 2],
        origin: Option<SystemTime>,
        gone: std::sync::Arc<Gone>,
    ) -> Self {
        let created = SystemTime::now();
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let appending = Appending {
            ring: RingWriter::new(ring.clone()),
            status: Status::default(),
            deaths_before: 0,
            finished: 0,
            newest: clock::micros(created),
            block_floor: u64::MAX,
            writers: Vec::new(),
            waiting: 0,
            refused: 0,
        };
        let shared = Shared {
            name: name.to_owned(),
            identity: Identity::new(origin.unwrap_or(created), number),
            config,
            ring,
            created,
            append: Mutex::new(appending),
            readers: Mutex::new(Vec::new()),
            reader_count: AtomicUsize::new(0),
            mapped: AtomicUsize::new(0),
            lost_before: AtomicU64::new(0),
            gone,
            news: WaitQueue::new(),
            room: WaitQueue::new(),
            joins: WaitQueue::new(),
            ends: WaitQueue::new(),
            watchers: std::sync::Arc::default(),
            lifetime: Lifetime::new(),
            kept: Kept::default(),
            reserved: Mutex::new(reserved),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its identity: another stream of its name has another one. The daemon's start in it is that of the registry, or of the
    /// stream itself where that belongs to none.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// How it was made.
    pub fn config(&self) -> &StreamConfig {
        &self.shared.config
    }

    /// The largest chunk that it takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.shared.config.max_chunk()
    }

    /// Whether other processes can be given its memory. False where the system has no memory of that kind, or where its registry has
    /// no [descriptor](crate::Registry::with_descriptors) left.
    pub fn is_shared(&self) -> bool {
        self.shared.ring.is_shared()
    }

    /// Attaches a writer.
    ///
    /// # Errors
    ///
    /// [`AttachError::Closed`] and [`AttachError::Removed`].
    pub fn writer(&self, peer: Peer) -> Result<Writer, AttachError> {
        Writer::attach(&self.shared, peer)
    }

    /// Attaches a reader. One that starts below tail begins with a gap.
    ///
    /// # Errors
    ///
    /// [`AttachError::Removed`] and [`AttachError::PastHead`].
    pub fn reader(&self, options: ReadOptions, peer: Peer) -> Result<Reader, AttachError> {
        let mut append = lock(&self.shared.append);
        if append.status.removed() {
            return Err(AttachError::Removed);
        }
        let (head, tail) = (append.ring.head(), append.ring.tail());
        let held = Extent {
            tail: tail.offset,
            head: head.offset,
            closed: append.status.closed(),
            failed: append.status.failed(),
            removed: false,
        };
        let at = self.place(&append.ring, options.start)?;
        let figures = Figures::own();
        figures.set_position(at);
        let state = ReaderState::new(self.shared.watchers.number(), peer, options.policy, at.offset, figures);
        if options.policy == SlowPolicy::Block {
            append.block_floor = append.block_floor.min(at.seq);
        }
        let membership = Membership::join(&self.shared, Arc::new(state));
        let deaths_before = append.deaths_before;
        let seat = append.ring.seat(at.seq);
        drop(append);
        self.shared.watchers.wake();
        self.shared.joins.wake_all();
        let ring = RingReader {
            ring: self.shared.ring.clone(),
            seq: at.seq,
            offset: at.offset,
            begun: None,
            missing: (at.offset < tail.offset).then_some(tail.offset),
            policy: options.policy,
            until: options.until,
            head_at_attach: head.offset,
            deaths_before,
            channel_buffer_size: self.shared.config.channel_buffer_size,
            live: at == head,
            seat,
        };
        Ok(Reader::new(membership, ring, held))
    }

    /// Where a reader starts. Below tail, the chunk is tail's.
    fn place(&self, ring: &RingWriter, start: Start) -> Result<Position, AttachError> {
        let history = self.shared.config.ring_buffer_size;
        let (head, tail) = (ring.head(), ring.tail());
        Ok(match start {
            Start::Oldest => ring.oldest_within(history),
            Start::New => head,
            Start::Tail(bytes) => {
                let offset = head.offset.saturating_sub(bytes).max(tail.offset);
                Position { offset, ..ring.chunk_at(offset) }
            }
            Start::Since(age) => {
                ring.oldest_since(clock::of_append().saturating_sub(clock::duration_micros(age)))
            }
            Start::Offset(offset) if offset > head.offset => {
                return Err(AttachError::PastHead { offset, head: head.offset });
            }
            Start::Offset(offset) if offset < tail.offset => Position { offset, ..tail },
            Start::Offset(offset) => Position { offset, ..ring.chunk_at(offset) },
        })
    }

    /// Takes no more appends; readers get the end at head. Closing twice is once.
    pub fn close(&self) {
        self.shared.set_status(Status::close);
    }

    /// As [`close`](Self::close), but as failed: at head, readers get [`End::Failed`](pfs_proto::End::Failed), which is not
    /// the end that there should be. False if the stream was closed before, and not as failed: then it stays as it is, because
    /// readers may have been told of that end.
    #[must_use = "a stream that was closed before did not fail"]
    pub fn close_failed(&self) -> bool {
        self.shared.set_status(Status::close_failed).failed()
    }

    /// Ends the stream for everybody attached, who are told that it was removed.
    pub fn remove(&self) {
        self.shared.set_status(Status::remove);
    }

    /// Waits until the stream is removed.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut waiting = Waiting {
            shared: Arc::clone(&self.shared),
            queue: |shared| &shared.ends,
            ticket: Ticket::default(),
        };
        poll_fn(move |cx| {
            let Waiting { shared, ticket, .. } = &mut waiting;
            shared.ends.poll(ticket, cx, || shared.ring.status().removed().then_some(()))
        })
    }

    /// Tells what happens to it from now on: who comes and goes, what readers lose, and how it ends. Whoever is told is not
    /// waited for.
    pub fn events(&self) -> Events {
        // Nothing can happen to the state of the stream meanwhile.
        let append = lock(&self.shared.append);
        self.shared.watchers.watch(append.status.removed())
    }

    /// Whether it takes appends: it is neither closed nor removed.
    pub fn is_active(&self) -> bool {
        let status = self.shared.ring.status();
        !status.closed() && !status.removed()
    }

    /// Whether nobody else has a handle of it, so that its memory goes with this one.
    pub(crate) fn is_unattached(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Whether the stream is as it was created: nothing was appended, no client is attached, and it was not closed.
    pub fn is_unused(&self) -> bool {
        let append = lock(&self.shared.append);
        let is_empty = append.ring.head().offset == 0 && !append.status.closed();
        is_empty && append.status.writers() == 0 && self.readers() == 0
    }

    /// Bytes that were ever appended to it: the offset of head.
    pub fn bytes_written(&self) -> u64 {
        lock(&self.shared.append).ring.head().offset
    }

    /// Readers attached now.
    pub fn readers(&self) -> usize {
        self.shared.reader_count.load(Ordering::SeqCst)
    }

    /// Waits until so many readers are attached, or until the stream takes no more appends.
    pub fn readers_reach(&self, count: usize) -> impl Future<Output = ()> + Send + 'static {
        let mut waiting = Waiting {
            shared: Arc::clone(&self.shared),
            queue: |shared| &shared.joins,
            ticket: Ticket::default(),
        };
        poll_fn(move |cx| {
            let Waiting { shared, ticket, .. } = &mut waiting;
            shared.joins.poll(ticket, cx, || {
                let status = shared.ring.status();
                let ended = status.closed() || status.removed();
                (ended || shared.reader_count.load(Ordering::SeqCst) >= count).then_some(())
            })
        })
    }

    /// All its figures.
    pub fn stat(&self) -> StreamStat {
        stat::stat(&self.shared)
    }

    /// Its most important figures.
    pub fn summary(&self) -> StreamSummary {
        stat::summary(&self.shared)
    }
}

/// A place in a queue of the stream, given back when dropped.
struct Waiting {
    shared: Arc<Shared>,
    queue: fn(&Shared) -> &WaitQueue,
    ticket: Ticket,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        (self.queue)(&self.shared).leave(&mut self.ticket);
    }
}

impl Shared {
    /// Closes or removes the stream, and tells everybody. Returns what it is now.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) -> Status {
        let mut append = lock(&self.append);
        let before = append.status;
        change(&mut append.status);
        let now = append.status;
        self.ring.set_status(now);
        if now.closed() && !before.closed() {
            let offset = append.ring.head().offset;
            self.watchers.tell(StreamEvent::Closed { offset, failed: now.failed() });
        }
        if now.removed() && !before.removed() {
            self.watchers.tell(StreamEvent::Removed);
        }
        drop(append);
        self.watchers.wake();
        self.wake_everybody();
        if now.removed() && !before.removed() {
            self.release();
        }
        now
    }

    /// Gives the memory of a removed stream back, even if readers are attached: a reader that has not noticed the removal finds
    /// nothing but the removal.
    fn release(&self) {
        let append = lock(&self.append);
        // What the system cannot take back goes with the last handle.
        if self.ring.release().is_ok() {
            drop(append);
            self.give_back();
        }
    }

    /// Counts the memory of a removed stream no longer, unless it is mapped by other processes.
    pub(crate) fn give_back(&self) {
        let mut reserved = lock(&self.reserved);
        if self.mapped.load(Ordering::SeqCst) == 0 && self.ring.is_released() {
            *reserved = [None, None];
        }
    }

    /// Wakes the readers that sleep, wherever they do.
    pub(crate) fn wake_readers(&self) {
        self.news.wake_all();
        #[cfg(all(target_os = "linux", not(any(miri, loom))))]
        if self.mapped.load(Ordering::Relaxed) > 0 {
            self.ring.ring_bell();
        }
    }

    fn wake_everybody(&self) {
        self.wake_readers();
        self.room.wake_all();
        self.joins.wake_all();
        self.ends.wake_all();
    }
}
