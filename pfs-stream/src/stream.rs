//! Stream handle: attaches readers and writers to a ring buffer, closes and removes the stream.

#[cfg(feature = "host")]
use std::any::Any;
use std::{
    future::{Future, poll_fn},
    time::{Duration, SystemTime},
};

use pfs_proto::{Identity, Peer, ReadOptions, SlowPolicy, Start, StreamStat, StreamSummary};

use crate::{
    AttachError, Budget, CreateError, Extent, Reader, StreamConfig, Writer, clock,
    events::Events,
    membership::Membership,
    read::Position,
    reader_stats::ReaderStats,
    ring::{Ring, RingReader, RingWriter, Status},
    stat,
    state::{self, Appending, Charges, ReaderState, Shared, release},
    sync::{Arc, Ordering, lock},
    wait::{Ticket, WaitQueue},
};

/// A named, append-only sequence of bytes in memory. Clones are handles to the same stream.
///
/// ```
/// # use pfs_stream::*;
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut writer = stream.writer()?;
/// let mut reader = stream.reader(ReadOptions::default())?;
/// writer.try_append(b"hello")?;
/// writer.finish(Finish::Close);
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

/// Bytes by which `memory` may exceed its limit while a new stream replaces `replaced`, because
/// dropping the replaced stream then frees that much. The overlap is harmless: until a writer
/// touches the new ring buffer, that ring buffer takes almost no physical memory.
pub(crate) fn spared(replaced: Option<&Stream>, memory: &Budget) -> u64 {
    let unattached = replaced.filter(|stream| stream.is_unattached());
    unattached.map_or(0, |stream| stream.shared.reserved_from(memory))
}

/// Attempts to find a reader's start in a ring buffer that the holder of a lease keeps overwriting.
const MAX_ATTEMPTS: usize = 64;

impl Stream {
    /// Creates a stream that belongs to no registry.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`] and [`CreateError::OutOfMemory`].
    pub fn new(name: &str, config: StreamConfig) -> Result<Self, CreateError> {
        config.check()?;
        let ring = state::first_ring(&config, Vec::new(), &Budget::default())?;
        Ok(Self::unregistered(name, config, ring))
    }

    /// Creates a stream for this process only. Chunks of 4 KiB and more are kept by reference:
    /// neither appending [`Bytes`](bytes::Bytes) nor reading them copies anything, however many
    /// readers there are. A local stream keeps every promise of other streams, except that its
    /// readers cannot be handed to other processes.
    ///
    /// The memory held is bounded by the ring buffer and an eighth more, counted in bytes of
    /// chunks: a chunk that has left the ring buffer is dropped a little later, because writers
    /// never wait for a reader that may be taking it. `Bytes` that are a small part of a large
    /// allocation keep the whole allocation. A reader that returns events takes up to 64 chunks at
    /// once, 2 MiB together or one larger chunk, and keeps the chunks that it has not returned yet.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`] and [`CreateError::OutOfMemory`].
    pub fn local(name: &str, config: StreamConfig) -> Result<Self, CreateError> {
        config.check()?;
        let ring = Ring::holding(config.layout())?;
        Ok(Self::unregistered(name, config, ring))
    }

    fn unregistered(name: &str, config: StreamConfig, ring: Ring) -> Self {
        Self::from_shared(Shared::new(
            name,
            config,
            ring,
            Charges::default(),
            None,
            std::sync::Arc::default(),
        ))
    }

    /// Creates the first handle of a stream.
    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// The name of the stream.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The identity of the stream, different from that of every other stream of the same name. The
    /// daemon's start time in the identity is that of the registry, or of the stream itself if it
    /// belongs to no registry.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// The configuration that the stream was created with.
    pub fn config(&self) -> &StreamConfig {
        &self.shared.config
    }

    /// Media type of the contents: the one in the configuration, or the one that was
    /// [recognised](Self::recognise).
    pub fn content_type(&self) -> Option<&str> {
        self.shared.content_type()
    }

    /// Sets the media type of the contents if neither the configuration nor an earlier call has set
    /// one.
    #[cfg(feature = "host")]
    pub fn recognise(&self, content_type: &'static str) {
        // Fails if a media type was set before, which stays.
        let _ = self.shared.recognised.set(content_type);
    }

    /// The largest chunk that the stream accepts, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.shared.config.max_chunk()
    }

    /// Returns true if the stream's memory can be shared with other processes. False where the
    /// system has no shareable memory, for a [local](Self::local) stream, and where the registry
    /// has no [descriptor](crate::Registry::with_descriptors) left.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub fn is_shared(&self) -> bool {
        let has_descriptor = || !self.shared.descriptors.is_used_up();
        !self.shared.holds && (has_descriptor() || self.shared.look().ring.ring().is_shared())
    }

    /// Returns false: this system cannot share a stream's memory with other processes.
    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    pub fn is_shared(&self) -> bool {
        false
    }

    /// Attaches a writer.
    ///
    /// # Errors
    ///
    /// [`AttachError::Closed`] and [`AttachError::Removed`].
    pub fn writer(&self) -> Result<Writer, AttachError> {
        self.writer_of(Peer::default())
    }

    /// Attaches a writer on behalf of `peer`, who is named in the stats.
    ///
    /// # Errors
    ///
    /// [`AttachError::Closed`] and [`AttachError::Removed`].
    pub fn writer_of(&self, peer: Peer) -> Result<Writer, AttachError> {
        Writer::attach(&self.shared, peer)
    }

    /// Attaches a reader. A reader that starts below tail begins with a gap.
    ///
    /// # Errors
    ///
    /// [`AttachError::Removed`] and [`AttachError::PastHead`].
    pub fn reader(&self, options: ReadOptions) -> Result<Reader, AttachError> {
        self.reader_of(options, Peer::default())
    }

    /// Attaches a reader on behalf of `peer`, who is named in the stats. A reader that starts below
    /// tail begins with a gap.
    ///
    /// # Errors
    ///
    /// [`AttachError::Removed`] and [`AttachError::PastHead`].
    pub fn reader_of(&self, options: ReadOptions, peer: Peer) -> Result<Reader, AttachError> {
        let mut append = self.shared.look();
        if append.status.removed() {
            return Err(AttachError::Removed);
        }
        if options.policy == SlowPolicy::Block {
            // End the lease: its block floor only rises, and this reader may be below that floor.
            // The floor of the next lease includes this reader.
            append.end_lease(&self.shared, None);
        }
        let at = match self.place(&mut append, options.start) {
            Ok(at) => at,
            Err(error) => {
                release(append, &mut Vec::new(), &self.shared);
                return Err(error);
            }
        };
        let (head, tail) = (append.ring.head(), append.ring.tail());
        let held = append.extent();
        let stats = ReaderStats::own();
        stats.set_position(at);
        let state =
            ReaderState::new(self.shared.watchers.number(), peer, options.policy, at.offset, stats);
        if options.policy == SlowPolicy::Block {
            append.block_floor = append.block_floor.min(at.seq);
        }
        let membership = Membership::join(&self.shared, Arc::new(state));
        let deaths_before = append.deaths_before;
        append.tell_readers(&self.shared);
        let hazard = append.ring.hazard(at.seq);
        let current = append.ring.ring().clone();
        release(append, &mut Vec::new(), &self.shared);
        self.shared.watchers.wake();
        self.shared.joins.wake_all();
        let ring = RingReader {
            ring: current,
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
            hazard,
        };
        Ok(Reader::new(membership, ring, held))
    }

    /// Finds the chunk and offset where a reader starts. Below tail, the chunk is the one at tail.
    /// `None` if the holder of a lease overwrote every place that was found.
    pub(crate) fn find_place(
        &self,
        append: &mut Appending,
        start: Start,
    ) -> Result<Option<Position>, AttachError> {
        for _ in 0..MAX_ATTEMPTS {
            let at = self.place_in(&append.ring, start)?;
            if !append.is_disturbed(at) {
                return Ok(Some(at));
            }
            append.look(&self.shared);
        }
        Ok(None)
    }

    /// Like [`find_place`](Self::find_place), but ends the lease of a holder that overwrites every
    /// place.
    fn place(&self, append: &mut Appending, start: Start) -> Result<Position, AttachError> {
        if let Some(at) = self.find_place(append, start)? {
            return Ok(at);
        }
        // The holder of a lease overwrites faster than we look, or has corrupted the index.
        append.end_lease(&self.shared, None);
        let at = self.place_in(&append.ring, start)?;
        Ok(if append.is_disturbed(at) { append.ring.head() } else { at })
    }

    fn place_in(&self, ring: &RingWriter, start: Start) -> Result<Position, AttachError> {
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
                ring.oldest_since(clock::append_time().saturating_sub(clock::duration_micros(age)))
            }
            Start::Offset(offset) if offset > head.offset => {
                return Err(AttachError::PastHead { offset, head: head.offset });
            }
            Start::Offset(offset) if offset < tail.offset => Position { offset, ..tail },
            Start::Offset(offset) => Position { offset, ..ring.chunk_at(offset) },
        })
    }

    /// Closes the stream: no more appends; readers get the end at head. Closing twice has no
    /// further effect.
    pub fn close(&self) {
        self.shared.set_status(Status::close);
    }

    /// Closes the stream as failed: at head, readers get [`End::Failed`](pfs_proto::End::Failed),
    /// which says that the data is incomplete. Returns false if the stream was closed before as
    /// complete. The stream then stays as it is, because readers may have been told of that end.
    #[must_use = "a stream that was closed before is not failed"]
    pub fn close_failed(&self) -> bool {
        self.shared.set_status(Status::close_failed).failed()
    }

    /// Removes the stream. All readers and writers are told that the stream was removed.
    pub fn remove(&self) {
        self.shared.set_status(Status::remove);
    }

    /// Waits until the stream is removed.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        self.ends_with(move || shared.status().removed().then_some(()))
    }

    /// Waits until `check` returns a value. Polls `check` when the stream ends or leaves a ring.
    pub(crate) fn ends_with<T, F: FnMut() -> Option<T> + Send>(
        &self,
        mut check: F,
    ) -> impl Future<Output = T> + Send + use<T, F> {
        let mut waiting = Waiting {
            shared: Arc::clone(&self.shared),
            queue: |shared| &shared.ends,
            ticket: Ticket::default(),
        };
        poll_fn(move |cx| {
            let Waiting { shared, ticket, .. } = &mut waiting;
            shared.ends.poll(ticket, cx, &mut check)
        })
    }

    /// Watches the stream from now on: readers attaching and detaching, gaps, and the end of the
    /// stream. The stream does not wait for watchers.
    pub fn events(&self) -> Events {
        // The lock keeps the stream's state from changing until the watcher is registered.
        let append = self.shared.look();
        self.shared.watchers.watch(append.status.removed())
    }

    /// Returns true if the stream accepts appends: it is neither closed nor removed.
    pub fn is_active(&self) -> bool {
        let status = self.shared.status();
        !status.closed() && !status.removed()
    }

    /// Returns true if this is the only handle, so that dropping it frees the stream's memory.
    pub(crate) fn is_unattached(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Returns true if the stream is as it was created: nothing was appended, no reader or writer
    /// is attached, and it was not closed.
    pub fn is_unused(&self) -> bool {
        let append = self.shared.look();
        let is_empty = append.ring.head().offset == 0 && !append.status.closed();
        is_empty && append.status.writers() == 0 && self.readers() == 0
    }

    /// Total bytes appended: the offset of head.
    pub fn bytes_written(&self) -> u64 {
        self.shared.look().ring.head().offset
    }

    /// Whether both are the same stream, and not two replicas of one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Number of readers attached now.
    pub fn readers(&self) -> usize {
        self.shared.reader_count.load(Ordering::SeqCst)
    }

    /// Number of readers for which writers wait. A reader that was given up is none of them.
    pub fn block_readers(&self) -> usize {
        let readers = lock(&self.shared.readers);
        readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block).count()
    }

    /// Waits until at least `count` readers are attached, or the stream stops accepting appends.
    pub fn readers_reach(&self, count: usize) -> impl Future<Output = ()> + Send + 'static {
        let mut waiting = Waiting {
            shared: Arc::clone(&self.shared),
            queue: |shared| &shared.joins,
            ticket: Ticket::default(),
        };
        poll_fn(move |cx| {
            let Waiting { shared, ticket, .. } = &mut waiting;
            shared.joins.poll(ticket, cx, || {
                let status = shared.status();
                let ended = status.closed() || status.removed();
                (ended || shared.reader_count.load(Ordering::SeqCst) >= count).then_some(())
            })
        })
    }

    /// The readable range of offsets, and whether more may come.
    pub fn extent(&self) -> Extent {
        self.shared.look().extent()
    }

    /// When the stream was created.
    pub fn created(&self) -> SystemTime {
        self.shared.created
    }

    /// Restarts the time to live, as an append does.
    pub fn renew(&self) {
        self.shared.lifetime.renew();
    }

    /// Suspends the time to live while the returned [`Hold`] exists.
    pub fn hold(&self) -> Hold {
        self.shared.lifetime.hold();
        Hold(self.clone())
    }

    /// Time until the stream expires, if nothing changes: by its time to live or by its deadline,
    /// whichever is earlier. Zero if that time has passed. `None` if the stream has neither, even
    /// if its registry lets idle streams [expire](crate::Registry::set_idle_ttl).
    pub fn expires_in(&self) -> Option<Duration> {
        let until =
            |deadline: SystemTime| deadline.duration_since(SystemTime::now()).unwrap_or_default();
        self.unused_left(None).into_iter().chain(self.shared.config.deadline.map(until)).min()
    }

    /// Returns true if the creator set a time to live or a deadline.
    pub(crate) fn has_lifetime(&self) -> bool {
        let config = &self.shared.config;
        config.ttl.is_some() || config.deadline.is_some()
    }

    /// Time until the stream expires if it stays unused: by its time to live or, if the creator set
    /// neither a time to live nor a deadline, after being idle for `idle_ttl`. `None` if the stream
    /// has none of these limits.
    pub(crate) fn unused_left(&self, idle_ttl: Option<Duration>) -> Option<Duration> {
        if let Some(ttl) = self.shared.config.ttl {
            self.shared.look_if_leased();
            return Some(ttl.saturating_sub(self.shared.lifetime.unused_for()));
        }
        let idle_ttl = idle_ttl.filter(|_| !self.has_lifetime())?;
        Some(idle_ttl.saturating_sub(self.shared.idle_for()?))
    }

    /// Data that the host attaches to this stream: one value of each type, created on first use.
    /// The engine never reads these values.
    #[cfg(feature = "host")]
    pub fn extension<T: Any + Send + Sync + Default>(&self) -> std::sync::Arc<T> {
        self.shared.extensions.get()
    }

    /// Returns the [`extension`](Self::extension) of this type, if there is one.
    #[cfg(feature = "host")]
    pub fn existing_extension<T: Any + Send + Sync>(&self) -> Option<std::sync::Arc<T>> {
        self.shared.extensions.find()
    }

    /// All stats of the stream.
    pub fn stat(&self) -> StreamStat {
        stat::stat(&self.shared)
    }

    /// The most important stats of the stream.
    pub fn summary(&self) -> StreamSummary {
        stat::summary(&self.shared)
    }
}

// In this file and not in reader.rs, because the reader is in a layer below the stream handle.
impl Reader {
    /// The stream that this reader follows.
    pub fn stream(&self) -> Stream {
        Stream { shared: Arc::clone(&self.membership.shared) }
    }
}

/// Suspends a stream's time to live. Dropping the hold restarts the time to live.
#[derive(Debug)]
pub struct Hold(Stream);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.shared.lifetime.reclaim();
    }
}

/// A place in one of the stream's wait queues, given back on drop.
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
