//! Shared state of a stream: what all its handles share, and its attached readers and writers.

mod appending;
mod attached;
mod growth;
mod lease;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
mod shm;

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use pfs_proto::{Identity, SlowPolicy, StreamEvent};

use crate::{
    budget::{Budget, Reservation},
    clock,
    config::StreamConfig,
    error::WriteError,
    events::Watchers,
    extensions::Extensions,
    lifetime::Lifetime,
    ring::{Ring, RingWriter, Status},
    sync::{Arc, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock},
    totals::{Gone, Totals},
    wait::WaitQueue,
};

#[cfg(feature = "host")]
use crate::{read::Position, replica::Upstream};

pub(crate) use appending::{Appending, refusal, refuse, release};
pub(crate) use attached::{Progress, ReaderState, WriterState};
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) use growth::MAX_ALLOCATED_BYTES;
pub(crate) use growth::{Growth, first_ring};
pub(crate) use lease::Lease;
pub use lease::LeaseEnd;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) use lease::WakeFiles;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub use shm::NextRing;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) use shm::RingElsewhere;

/// The number of streams made in this process so far.
static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The state that all handles of a stream share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// Identifies the stream, because names are used again.
    pub(crate) identity: Identity,
    pub(crate) config: StreamConfig,
    /// Media type that the host recognised in the contents of a stream without a media type.
    pub(crate) recognised: OnceLock<&'static str>,
    /// The status, for code that does not hold the lock.
    status: AtomicU64,
    /// The stream's ring, once it was handed out: readers of other processes sleep on its notifier.
    /// Locked after `append` where both are needed.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) shared_ring: Mutex<Option<Ring>>,
    /// Whether the stream's ring holds chunks by reference.
    pub(crate) holds: bool,
    /// Whether the stream replicates one of another host.
    pub(crate) is_replica: bool,
    pub(crate) created: SystemTime,
    /// The one short lock of an append. Never held while copying out, waiting or waking.
    pub(crate) append: Mutex<Appending>,
    /// Locked after `append` where both are needed. A reader locks it to attach and to leave.
    pub(crate) readers: Mutex<Vec<Arc<ReaderState>>>,
    pub(crate) reader_count: AtomicUsize,
    /// The number of readers in other processes.
    pub(crate) shm_readers: AtomicUsize,
    /// The number of those readers that cannot follow to another ring.
    pub(crate) staying: AtomicUsize,
    /// Total of lost bytes that detached readers were told about. Written under `readers`, when a
    /// reader detaches.
    pub(crate) lost_before: AtomicU64,
    /// Totals of readers and writers that have left.
    pub(crate) gone: std::sync::Arc<Gone>,
    /// Readers that wait for something to read.
    pub(crate) news: WaitQueue,
    /// Writers that wait for a `block` reader to make room.
    pub(crate) room: WaitQueue,
    /// Writers that wait for readers to attach.
    pub(crate) joins: WaitQueue,
    /// Tasks that wait for the stream to take no more appends, or to be removed. Woken only for
    /// these events.
    pub(crate) ends: WaitQueue,
    /// Watchers of the stream's events. Allocated separately, so that watchers keep no memory of a
    /// removed stream.
    pub(crate) watchers: std::sync::Arc<Watchers>,
    pub(crate) lifetime: Lifetime,
    /// Per-stream data of the host.
    pub(crate) extensions: Extensions,
    /// The budgets that the stream's rings are charged to.
    pub(crate) budgets: Vec<Budget>,
    /// The budget of descriptors for the stream's shared memory.
    pub(crate) descriptors: Budget,
    /// What the stream takes beside its rings. Given back when the last handle is dropped, or when
    /// the stream was removed and no other process reads it.
    reserved: Mutex<Vec<Reservation>>,
    /// What the host keeps for the stream, in each budget. Given back when the stream is removed.
    kept: Mutex<Vec<Reservation>>,
}

/// Bytes that a stream of this name takes beside its rings: the state that its handles share, and
/// its place in a registry. Measured with 100,000 streams of 100 bytes: 2,221 bytes each, of which
/// the ring has 592.
pub(crate) fn overhead(name: &str) -> u64 {
    1536 + 3 * name.len() as u64
}

/// The budgets and reservations of a stream.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// What the stream takes beside its ring.
    pub(crate) reserved: Vec<Reservation>,
    /// The budgets that the stream's rings after the first are charged to.
    pub(crate) budgets: Vec<Budget>,
    /// The budget of descriptors for the stream's shared memory.
    pub(crate) descriptors: Budget,
}

impl Shared {
    /// The state of a new stream, without readers and writers.
    pub(crate) fn new(
        name: &str,
        config: StreamConfig,
        ring: Ring,
        charges: Charges,
        origin: Option<SystemTime>,
        gone: std::sync::Arc<Gone>,
    ) -> Self {
        let created = SystemTime::now();
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let holds = ring.holds();
        let full = if holds { ring.layout() } else { config.layout() };
        let Charges { reserved, budgets, descriptors } = charges;
        let appending = Appending {
            growth: Growth::new(ring.layout(), full),
            ring: RingWriter::new(ring),
            skipped: None,
            status: Status::default(),
            deaths_before: 0,
            finished: 0,
            newest: clock::micros(created),
            block_floor: u64::MAX,
            writers: Vec::new(),
            waiting: 0,
            has_to_wake: false,
            lease: None,
            lease_waiter: None,
            is_sealed: false,
            refused: 0,
        };
        Self {
            name: name.to_owned(),
            recognised: OnceLock::new(),
            identity: Identity::new(origin.unwrap_or(created), number),
            config,
            status: AtomicU64::new(Status::default().word()),
            #[cfg(all(target_os = "linux", not(any(miri, loom))))]
            shared_ring: Mutex::new(None),
            holds,
            is_replica: false,
            created,
            append: Mutex::new(appending),
            readers: Mutex::new(Vec::new()),
            reader_count: AtomicUsize::new(0),
            shm_readers: AtomicUsize::new(0),
            staying: AtomicUsize::new(0),
            lost_before: AtomicU64::new(0),
            gone,
            news: WaitQueue::new(),
            room: WaitQueue::new(),
            joins: WaitQueue::new(),
            ends: WaitQueue::new(),
            watchers: std::sync::Arc::default(),
            lifetime: Lifetime::new(),
            extensions: Extensions::default(),
            budgets,
            descriptors,
            reserved: Mutex::new(reserved),
            kept: Mutex::default(),
        }
    }

    /// Makes this the state of a replica.
    #[cfg(feature = "host")]
    pub(crate) fn replicating(mut self, upstream: &Upstream) -> Self {
        self.is_replica = true;
        (self.identity, self.created) = (upstream.identity, upstream.created);
        let mut append = lock(&self.append);
        append.newest = clock::micros(upstream.created);
        append.begin_at(Position { seq: 0, offset: upstream.begin });
        drop(append);
        self
    }

    /// Media type of the contents: the creator's, or the one that the host recognised.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.config.content_type.as_deref().or_else(|| self.recognised.get().copied())
    }

    /// Locks the append state, if the stream takes appends.
    pub(crate) fn appending(&self) -> Result<MutexGuard<'_, Appending>, WriteError> {
        let append = lock(&self.append);
        refusal(append.status).map_or(Ok(append), Err)
    }

    /// Restarts the time to live. Does next to nothing for a stream that has none.
    #[inline(always)]
    pub(crate) fn renew(&self) {
        if self.config.ttl.is_some() {
            self.lifetime.renew();
        }
    }

    /// How long the stream was idle: without readers, writers and other uses. `None` if closed.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let status = self.status();
        let is_attached = status.writers() > 0 || self.reader_count.load(Ordering::SeqCst) > 0;
        let idle_for = if is_attached { Duration::ZERO } else { self.lifetime.idle_for() };
        (!status.closed()).then_some(idle_for)
    }

    /// The status as of its last change.
    pub(crate) fn status(&self) -> Status {
        Status::from_word(self.status.load(Ordering::Acquire))
    }

    /// Publishes the status to all handles and readers.
    pub(crate) fn publish(&self, append: &Appending) {
        self.status.store(append.status.word(), Ordering::Release);
        append.ring.ring().set_status(append.status);
    }

    /// Changes the status: closes or removes the stream. Tells all waiters. Returns the new status.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) -> Status {
        let mut append = lock(&self.append);
        append.end_lease(self, None);
        let before = append.status;
        change(&mut append.status);
        let now = append.status;
        self.publish(&append);
        if now.closed() && !before.closed() {
            let offset = append.ring.head().offset;
            self.watchers.tell(StreamEvent::Closed { offset, failed: now.failed() });
        }
        if now.removed() && !before.removed() {
            self.watchers.tell(StreamEvent::Removed);
        }
        release(append, &mut Vec::new(), self);
        self.watchers.wake();
        self.wake_everybody();
        if now.removed() && !before.removed() {
            self.release();
        }
        now
    }

    /// Frees the ring that the stream left when it last skipped, if no reader needs it any more.
    pub(crate) fn forget_skipped(&self) {
        let mut append = lock(&self.append);
        let forgotten = append.forget_skipped(self);
        drop(append);
        drop(forgotten);
    }

    /// Gives the memory of a removed stream back, even if readers are attached: a reader that has
    /// not noticed the removal yet finds only the removal.
    fn release(&self) {
        lock(&self.kept).clear();
        let mut append = lock(&self.append);
        let next = append.growth.stop();
        // If the system cannot take a ring back, the ring is freed and counted until its last
        // handle is dropped.
        let _ = append.ring.ring().release();
        drop(append);
        drop(next);
        self.give_back();
    }

    /// Stops counting a removed stream, unless its memory is mapped by other processes.
    pub(crate) fn give_back(&self) {
        let append = lock(&self.append);
        if !append.status.removed() || self.shm_readers.load(Ordering::SeqCst) > 0 {
            return;
        }
        let ring = append.ring.ring();
        if ring.is_released() {
            ring.charge(Vec::new());
        }
        lock(&self.reserved).clear();
    }

    /// Accounts for `bytes` in all that the host keeps for the stream.
    #[cfg(feature = "host")]
    pub(crate) fn keep(&self, bytes: u64) -> bool {
        let mut kept = lock(&self.kept);
        // The status is set before what is kept is given back.
        if self.status().removed() {
            return false;
        }
        if kept.is_empty() {
            let reserved = self.budgets.iter().map(|budget| budget.reserve(bytes)).collect();
            let Some(reserved) = reserved else { return false };
            *kept = reserved;
        }
        let is_reserved = kept.iter_mut().all(|part| part.resize(bytes));
        if !is_reserved {
            kept.clear();
        }
        is_reserved
    }

    /// Bytes that the host keeps for the stream.
    pub(crate) fn kept(&self) -> u64 {
        lock(&self.kept).first().map_or(0, Reservation::bytes)
    }

    /// The share of a budget that the stream takes.
    pub(crate) fn reserved_from(&self, budget: &Budget) -> u64 {
        let append = lock(&self.append);
        let rings = append.ring.ring().charged_to(budget) + append.growth.charged_to(budget);
        drop(append);
        let of = |parts: &[Reservation]| -> u64 {
            parts.iter().filter(|part| part.is_of(budget)).map(Reservation::bytes).sum()
        };
        rings + of(&lock(&self.reserved)) + of(&lock(&self.kept))
    }

    /// Wakes all sleeping readers, in this process and in others.
    pub(crate) fn wake_readers(&self) {
        self.news.wake_all();
        #[cfg(all(target_os = "linux", not(any(miri, loom))))]
        if self.shm_readers.load(Ordering::Relaxed) > 0 {
            let ring = lock(&self.shared_ring).clone();
            if let Some(ring) = ring {
                ring.notify();
            }
        }
    }

    fn wake_everybody(&self) {
        self.wake_readers();
        self.room.wake_all();
        self.joins.wake_all();
        self.ends.wake_all();
    }

    /// Adds this stream and its attached readers and writers to the totals.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        let now = clock::elapsed();
        let append = self.look();
        *(if append.status.closed() { &mut totals.closed } else { &mut totals.open }) += 1;
        for writer in &append.writers {
            totals.writers += 1;
            totals.add(writer.counted());
            if let since @ 1.. = writer.waiting.load(Ordering::Relaxed) {
                totals.writers_waiting += 1;
                totals.waited += Duration::from_micros(now.saturating_sub(since));
            }
        }
        let head = append.ring.head();
        for reader in lock(&self.readers).iter() {
            *match reader.policy() {
                SlowPolicy::Drop => &mut totals.readers_drop,
                SlowPolicy::Block => &mut totals.readers_block,
                SlowPolicy::Disconnect => &mut totals.readers_disconnect,
            } += 1;
            totals.add(reader.counted(reader.progress(head)));
        }
    }
}
