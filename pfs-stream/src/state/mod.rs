//! What all handles of a stream share, and who is attached to it.

mod appending;
mod attached;
mod growth;
mod lease;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
mod shm;

use std::time::{Duration, SystemTime};

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

/// Streams made in this process so far.
static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// What all handles of a stream share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// Which stream it is, for names are used again.
    pub(crate) identity: Identity,
    pub(crate) config: StreamConfig,
    /// The status, for those who do not hold the lock.
    status: AtomicU64,
    /// The stream's ring, on whose notifier readers of other processes sleep, once one was handed
    /// out. Taken after `append` where both are needed.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) shared_ring: Mutex<Option<Ring>>,
    /// Whether its ring holds chunks by reference.
    pub(crate) holds: bool,
    pub(crate) created: SystemTime,
    /// The one short lock of an append. Nobody holds it while copying out, waiting or waking.
    pub(crate) append: Mutex<Appending>,
    /// Taken after `append` where both are needed; a reader takes it to attach and to leave.
    pub(crate) readers: Mutex<Vec<Arc<ReaderState>>>,
    pub(crate) reader_count: AtomicUsize,
    /// Readers that are in other processes.
    pub(crate) shm_readers: AtomicUsize,
    /// Those of them that cannot follow to another ring.
    pub(crate) staying: AtomicUsize,
    /// Bytes that readers who have left were told they lost. Written under `readers`, when one
    /// leaves.
    pub(crate) lost_before: AtomicU64,
    /// Where those who leave add up what they did.
    pub(crate) gone: std::sync::Arc<Gone>,
    /// Readers that wait for something to read.
    pub(crate) news: WaitQueue,
    /// Writers that wait for a `block` reader to make room.
    pub(crate) room: WaitQueue,
    /// Writers that wait for readers to attach.
    pub(crate) joins: WaitQueue,
    /// Tasks that wait for the stream to take no more appends, or to be removed. Woken only for
    /// that.
    pub(crate) ends: WaitQueue,
    /// Those who are told what happens to the stream. Apart, so that they keep nothing of a
    /// removed stream's memory.
    pub(crate) watchers: std::sync::Arc<Watchers>,
    pub(crate) lifetime: Lifetime,
    /// What its host keeps about it.
    pub(crate) extensions: Extensions,
    /// What its rings are charged to.
    pub(crate) budgets: Vec<Budget>,
    /// Where the descriptors for its shared memory come from.
    pub(crate) descriptors: Budget,
    /// What it takes beside its rings. Given back when the last handle is gone, or the stream was
    /// removed and is read by no other process.
    reserved: Mutex<Vec<Reservation>>,
}

/// Bytes that a stream of this name takes beside its rings: what its handles share, and its place
/// in a registry. Measured with 100,000 streams of 100 bytes: 2,221 bytes each, of which the ring
/// has 592.
pub(crate) fn overhead(name: &str) -> u64 {
    1536 + 3 * name.len() as u64
}

/// What a stream is charged to.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// What it takes beside its ring.
    pub(crate) reserved: Vec<Reservation>,
    /// What its rings are charged to, after the first.
    pub(crate) budgets: Vec<Budget>,
    /// Where the descriptors for its shared memory come from.
    pub(crate) descriptors: Budget,
}

impl Shared {
    /// For a stream that nobody is attached to yet.
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
            identity: Identity::new(origin.unwrap_or(created), number),
            config,
            status: AtomicU64::new(Status::default().word()),
            #[cfg(all(target_os = "linux", not(any(miri, loom))))]
            shared_ring: Mutex::new(None),
            holds,
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
        }
    }

    /// The append lock of a stream that takes appends.
    pub(crate) fn appending(&self) -> Result<MutexGuard<'_, Appending>, WriteError> {
        let append = lock(&self.append);
        refusal(append.status).map_or(Ok(append), Err)
    }

    /// Begins the time to live anew. Does next to nothing for a stream that has none.
    #[inline(always)]
    pub(crate) fn renew(&self) {
        if self.config.ttl.is_some() {
            self.lifetime.renew();
        }
    }

    /// How long the stream was idle: without readers, writers and other uses. `None` once it is
    /// closed.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let status = self.status();
        let is_attached = status.writers() > 0 || self.reader_count.load(Ordering::SeqCst) > 0;
        let idle_for = if is_attached { Duration::ZERO } else { self.lifetime.idle_for() };
        (!status.closed()).then_some(idle_for)
    }

    /// What the stream was when its status was last changed.
    pub(crate) fn status(&self) -> Status {
        Status::from_word(self.status.load(Ordering::Acquire))
    }

    /// Tells everybody who looks what the status is now.
    pub(crate) fn publish(&self, append: &Appending) {
        self.status.store(append.status.word(), Ordering::Release);
        append.ring.ring().set_status(append.status);
    }

    /// Closes or removes the stream, and tells everybody. Returns what it is now.
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

    /// Gives the memory of a removed stream back, even if readers are attached: a reader that has
    /// not noticed the removal finds nothing but the removal.
    fn release(&self) {
        let mut append = lock(&self.append);
        let next = append.growth.stop();
        // A ring that the system cannot take back goes with the last handle of it, and is counted
        // until then.
        let _ = append.ring.ring().release();
        drop(append);
        drop(next);
        self.give_back();
    }

    /// Counts a removed stream no longer, unless its memory is mapped by other processes.
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

    /// How much the stream takes of a budget.
    pub(crate) fn reserved_from(&self, budget: &Budget) -> u64 {
        let append = lock(&self.append);
        let rings = append.ring.ring().charged_to(budget) + append.growth.charged_to(budget);
        drop(append);
        let reserved = lock(&self.reserved);
        let beside: u64 =
            reserved.iter().filter(|part| part.is_of(budget)).map(Reservation::bytes).sum();
        rings + beside
    }

    /// Wakes the readers that sleep, wherever they do.
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

    /// Adds this stream and those who are attached to it.
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
