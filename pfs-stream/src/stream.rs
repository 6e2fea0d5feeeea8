//! A stream: a ring, who is attached to it, and how it ends.

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
    sync::{Arc, Ordering},
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

/// How much more of a budget of memory than its limit may be in use while a stream takes the name
/// of this one, which gives that much back next. A ring that nobody has written to has taken next
/// to nothing until then.
pub(crate) fn spared(replaced: Option<&Stream>, memory: &Budget) -> u64 {
    let unattached = replaced.filter(|stream| stream.is_unattached());
    unattached.map_or(0, |stream| stream.shared.reserved_from(memory))
}

/// So often at most a place is looked for in a ring that the holder of a lease overwrites
/// meanwhile.
const MAX_ATTEMPTS: usize = 64;

impl Stream {
    /// Makes a stream that belongs to no registry.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`] and [`CreateError::OutOfMemory`].
    pub fn new(name: &str, config: StreamConfig) -> Result<Self, CreateError> {
        config.check()?;
        let ring = state::first_ring(&config, Vec::new(), &Budget::default())?;
        Ok(Self::unregistered(name, config, ring))
    }

    /// Makes a stream for this process alone: chunks of 4 KiB and more are held by reference, so
    /// that neither appending [`Bytes`](bytes::Bytes) nor reading them copies anything, however
    /// many read. It keeps every promise of any other stream, except that its readers can't be
    /// handed out to other processes.
    ///
    /// What it holds is bounded by its ring and an eighth more, counted in bytes of chunks: a chunk
    /// that has left the ring is let go of a little later, because nobody waits for a reader
    /// that may be taking it. `Bytes` that are a small part of something large keep all of
    /// that. A reader that is asked for events takes up to 64 chunks at once, of 2 MiB together or
    /// a single one, and keeps those that it has not handed on.
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

    /// The first handle of a stream.
    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its identity: another stream of its name has another one. The daemon's start in it is that
    /// of the registry, or of the stream itself where that belongs to none.
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

    /// Whether other processes can be given its memory. False where the system has no memory of
    /// that kind, for a [local](Self::local) stream, and where its registry has no
    /// [descriptor](crate::Registry::with_descriptors) left.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub fn is_shared(&self) -> bool {
        let has_descriptor = || !self.shared.descriptors.is_used_up();
        !self.shared.holds && (has_descriptor() || self.shared.look().ring.ring().is_shared())
    }

    /// Whether other processes can be given its memory: never on this system.
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

    /// Attaches a writer on behalf of somebody, whom the stats name.
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer).
    pub fn writer_of(&self, peer: Peer) -> Result<Writer, AttachError> {
        Writer::attach(&self.shared, peer)
    }

    /// Attaches a reader. One that starts below tail begins with a gap.
    ///
    /// # Errors
    ///
    /// [`AttachError::Removed`] and [`AttachError::PastHead`].
    pub fn reader(&self, options: ReadOptions) -> Result<Reader, AttachError> {
        self.reader_of(options, Peer::default())
    }

    /// Attaches a reader on behalf of somebody, whom the stats name.
    ///
    /// # Errors
    ///
    /// As [`reader`](Self::reader).
    pub fn reader_of(&self, options: ReadOptions, peer: Peer) -> Result<Reader, AttachError> {
        let mut append = self.shared.look();
        if append.status.removed() {
            return Err(AttachError::Removed);
        }
        if options.policy == SlowPolicy::Block {
            // The floor of a lease only rises; a new one has this reader below it.
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

    /// Where a reader starts. Below tail, the chunk is tail's.
    fn place(&self, append: &mut Appending, start: Start) -> Result<Position, AttachError> {
        for _ in 0..MAX_ATTEMPTS {
            let at = self.place_in(&append.ring, start)?;
            if !append.is_disturbed(at) {
                return Ok(at);
            }
            append.look(&self.shared);
        }
        // The holder of a lease is too fast, or has spoiled the index.
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

    /// Takes no more appends; readers get the end at head. Closing twice is once.
    pub fn close(&self) {
        self.shared.set_status(Status::close);
    }

    /// As [`close`](Self::close), but as failed: at head, readers get
    /// [`End::Failed`](pfs_proto::End::Failed), which is not the end that there should be.
    /// False if the stream was closed before, and not as failed: then it stays as it is, because
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
        let shared = Arc::clone(&self.shared);
        self.ends_with(move || shared.status().removed().then_some(()))
    }

    /// Waits for something that comes with an end: of the stream, or of its stay in a ring.
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

    /// Tells what happens to it from now on: who comes and goes, what readers lose, and how it
    /// ends. Whoever is told is not waited for.
    pub fn events(&self) -> Events {
        // Nothing can happen to the state of the stream meanwhile.
        let append = self.shared.look();
        self.shared.watchers.watch(append.status.removed())
    }

    /// Whether it takes appends: it is neither closed nor removed.
    pub fn is_active(&self) -> bool {
        let status = self.shared.status();
        !status.closed() && !status.removed()
    }

    /// Whether nobody else has a handle of it, so that its memory goes with this one.
    pub(crate) fn is_unattached(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Whether the stream is as it was created: nothing was appended, no client is attached, and it
    /// was not closed.
    pub fn is_unused(&self) -> bool {
        let append = self.shared.look();
        let is_empty = append.ring.head().offset == 0 && !append.status.closed();
        is_empty && append.status.writers() == 0 && self.readers() == 0
    }

    /// Bytes that were ever appended to it: the offset of head.
    pub fn bytes_written(&self) -> u64 {
        self.shared.look().ring.head().offset
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
                let status = shared.status();
                let ended = status.closed() || status.removed();
                (ended || shared.reader_count.load(Ordering::SeqCst) >= count).then_some(())
            })
        })
    }

    /// What it holds now.
    pub fn extent(&self) -> Extent {
        self.shared.look().extent()
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        self.shared.created
    }

    /// Begins its time to live anew, as an append does.
    pub fn renew(&self) {
        self.shared.lifetime.renew();
    }

    /// Keeps its time to live from running out for as long as this is held.
    pub fn hold(&self) -> Hold {
        self.shared.lifetime.hold();
        Hold(self.clone())
    }

    /// How long it lives on, as things stand: until its time to live runs out, or until its
    /// deadline. Zero if that is over; `None` if it has neither, even if its registry has it
    /// [expire](crate::Registry::set_idle_ttl) when it is idle.
    pub fn expires_in(&self) -> Option<Duration> {
        let until =
            |deadline: SystemTime| deadline.duration_since(SystemTime::now()).unwrap_or_default();
        self.unused_left(None).into_iter().chain(self.shared.config.deadline.map(until)).min()
    }

    /// Whether its creator said how long it lives.
    pub(crate) fn has_lifetime(&self) -> bool {
        let config = &self.shared.config;
        config.ttl.is_some() || config.deadline.is_some()
    }

    /// How long it lives on if nobody uses it: until its time to live runs out, or until it was
    /// idle for `idle_ttl` where its creator said nothing. `None` if neither ends it as it is.
    pub(crate) fn unused_left(&self, idle_ttl: Option<Duration>) -> Option<Duration> {
        if let Some(ttl) = self.shared.config.ttl {
            self.shared.look_if_leased();
            return Some(ttl.saturating_sub(self.shared.lifetime.unused_for()));
        }
        let idle_ttl = idle_ttl.filter(|_| !self.has_lifetime())?;
        Some(idle_ttl.saturating_sub(self.shared.idle_for()?))
    }

    /// Data that the host attaches to this stream, made on first use: one value of each type. The
    /// engine never reads it.
    #[cfg(feature = "host")]
    pub fn extension<T: Any + Send + Sync + Default>(&self) -> std::sync::Arc<T> {
        self.shared.extensions.get()
    }

    /// All its stats.
    pub fn stat(&self) -> StreamStat {
        stat::stat(&self.shared)
    }

    /// Its most important stats.
    pub fn summary(&self) -> StreamSummary {
        stat::summary(&self.shared)
    }
}

// Not beside the reader, which is below the handles of a stream.
impl Reader {
    /// The stream that it reads.
    pub fn stream(&self) -> Stream {
        Stream { shared: Arc::clone(&self.membership.shared) }
    }
}

/// Keeps a stream's time to live from running out, and begins it anew when dropped.
#[derive(Debug)]
pub struct Hold(Stream);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.shared.lifetime.reclaim();
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
