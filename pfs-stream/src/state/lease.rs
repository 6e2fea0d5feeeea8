//! Leases on the stream's side: the only writer of a stream, in another process, appends to the
//! ring directly, and the stream observes.
//!
//! The lease is an option of the append state. Code that needs the position of the stream calls
//! [`look`](Shared::look) first, which takes note of what the holder has appended. An append
//! through the stream ends the lease: it always calls [`Appending::grow`], because an append to a
//! leased ring is always due for growth.
//!
//! A lease ends by one instruction, [`RingWriter::seal`](crate::ring::RingWriter::seal), which
//! needs no consent, cannot fail, and allocates nothing. The sealed ring stays the stream's ring
//! until the next append, which moves the stream to a ring of its own: the holder may still be
//! writing into the sealed ring.

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use rustix::event::{EventfdFlags, eventfd};

use super::{Appending, Shared, WriterState, release};
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use crate::{
    budget::{Budget, Reservation},
    reader_stats::PAGE_WORDS,
    ring::Memory,
};
use crate::{
    clock,
    read::Position,
    ring::Violation,
    sync::{Arc, MutexGuard, Ordering, lock},
};

/// The highest append rate of a holder, in bytes per second. More is a violation.
const MAX_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024 * 1024;

/// A lease, on the stream's side.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) writer: Arc<WriterState>,
    /// Head when the lease was granted.
    from: Position,
    /// Bytes that the writer had appended before the lease.
    before: u64,
    /// When head was last seen, on the clock of [`clock::elapsed`].
    seen: u64,
    /// How the holder and readers of other processes wake each other.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) wake_files: Arc<WakeFiles>,
}

/// The files by which the holder of a lease and readers of other processes wake each other. The
/// stream itself uses neither.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
#[derive(Debug)]
pub(crate) struct WakeFiles {
    /// The page in which sleeping readers ask the holder to wake them.
    asleep: OwnedFd,
    /// The event counter (eventfd) that `block` readers add to when they have made room that the
    /// holder waits for.
    room: OwnedFd,
    /// The reservation of their descriptors.
    _reserved: Reservation,
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
impl WakeFiles {
    /// Creates the page and the event counter. `None` for lack of descriptors or memory.
    pub(crate) fn new(descriptors: &Budget) -> Option<Self> {
        let reserved = descriptors.reserve(2)?;
        let (_, asleep) = Memory::writable_by_others(PAGE_WORDS).ok()?;
        let room = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        Some(Self { asleep, room, _reserved: reserved })
    }

    /// The page, and the event counter.
    pub(crate) fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.asleep.as_fd(), self.room.as_fd()]
    }
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseEnd {
    /// Chunks that the holder appended under the lease and that are in the stream.
    pub chunks: u64,
    /// Bytes of these chunks.
    pub bytes: u64,
    /// The offset after the last of these chunks.
    pub offset: u64,
    /// What was wrong with the ring, if the lease ended for that reason.
    pub violation: Option<Violation>,
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
impl Lease {
    pub(crate) fn new(
        writer: Arc<WriterState>,
        from: Position,
        wake_files: Arc<WakeFiles>,
    ) -> Self {
        let before = writer.bytes.load(Ordering::Relaxed);
        Self { writer, from, before, seen: clock::elapsed(), wake_files }
    }
}

impl Lease {
    /// The end that the lease would have if it ended at this head.
    pub(crate) fn so_far(&self, head: Position) -> LeaseEnd {
        let Position { seq, offset } = self.from;
        LeaseEnd {
            chunks: head.seq.saturating_sub(seq),
            bytes: head.offset.saturating_sub(offset),
            offset: head.offset,
            violation: None,
        }
    }
}

impl Appending {
    /// Whether the only writer may get a lease: there is no other writer, and every reader could
    /// follow the stream when the lease ends.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn can_be_leased(&self, shared: &Shared) -> bool {
        let status = self.status;
        let is_open = !status.closed() && !status.removed();
        is_open
            && status.writers() == 1
            && self.lease.is_none()
            && shared.staying.load(Ordering::SeqCst) == 0
    }

    /// Takes note of what the holder of a lease has appended since the last look, or of what a
    /// former holder overwrites after the end of its lease.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let Some(lease) = &mut self.lease else {
            if self.is_sealed {
                self.ring.observe_announced();
            }
            return;
        };
        let (before, now) = (self.ring.head(), clock::elapsed());
        let seen = self.ring.observe();
        let more = self.ring.head().offset.saturating_sub(before.offset);
        let micros = now.saturating_sub(lease.seen).saturating_add(1);
        let possible = micros
            .saturating_mul(MAX_BYTES_PER_SECOND / 1_000_000)
            .saturating_add(self.ring.ring().layout().capacity());
        match seen {
            Ok(()) if more <= possible => {
                lease.seen = now;
                if more > 0 {
                    self.count_leased(shared);
                }
            }
            Ok(()) => self.leave_corrupt(shared, Violation::Head),
            Err(violation) => self.leave_corrupt(shared, violation),
        }
    }

    /// Ends the lease of a ring that its holder has corrupted, and leaves that ring at once,
    /// because its words may keep readers waiting. If there is no memory for another ring, the next
    /// append leaves it.
    fn leave_corrupt(&mut self, shared: &Shared, violation: Violation) {
        self.end_lease(shared, Some(violation));
        let _ = self.grow(0, 0, shared);
    }

    /// Whether a position that was found in the ring may be wrong, because the holder of a lease
    /// has overwritten or corrupted the words that were looked at.
    pub(crate) fn is_disturbed(&self, at: Position) -> bool {
        if self.lease.is_none() && !self.is_sealed {
            return false;
        }
        let (tail, head) = (self.ring.tail(), self.ring.head());
        let is_possible = (tail.seq..=head.seq).contains(&at.seq) && at.offset <= head.offset;
        !is_possible || self.ring.has_announced_beyond(at.seq)
    }

    /// Tells the holder of a lease how many readers are attached.
    pub(crate) fn tell_readers(&self, shared: &Shared) {
        if self.lease.is_some() {
            self.ring.set_readers(shared.reader_count.load(Ordering::SeqCst) as u64);
        }
    }

    /// Adds what the holder has appended to the stats of its writer.
    fn count_leased(&mut self, shared: &Shared) {
        let Some(lease) = &self.lease else { return };
        let bytes = lease.before.saturating_add(lease.so_far(self.ring.head()).bytes);
        let more = bytes.saturating_sub(lease.writer.bytes.swap(bytes, Ordering::Relaxed));
        lease.writer.leased.fetch_add(more, Ordering::Relaxed);
        // Never use the holder's timestamp: this is the time when the append was seen.
        self.newest = self.newest.max(clock::append_time());
        shared.renew();
    }

    /// Ends the lease, if there is one. Everything that the holder has published up to now is in
    /// the stream, and nothing after. The task that waits for the end is woken when the lock is
    /// [released](super::release).
    pub(crate) fn end_lease(&mut self, shared: &Shared, found: Option<Violation>) {
        if self.lease.is_none() {
            return;
        }
        self.ring.seal();
        let violation = found.or_else(|| self.ring.observe().err());
        self.count_leased(shared);
        let Some(lease) = self.lease.take() else { return };
        self.is_sealed = true;
        self.growth.is_due_always();
        self.status.set_leased(false);
        // Publish after the seal: a reader that sees the status also sees the last head.
        shared.publish(self);
        let end = LeaseEnd { violation, ..lease.so_far(self.ring.head()) };
        let waiter = {
            let mut told = lock(&lease.writer.lease_end);
            told.0 = Some(end);
            told.1.take()
        };
        (self.lease_waiter, self.has_to_wake) = (waiter, true);
    }
}

impl Shared {
    /// Locks the append state, and takes note of what the holder of a lease has appended up to now.
    pub(crate) fn look(&self) -> MutexGuard<'_, Appending> {
        let mut append = lock(&self.append);
        let was_leased = append.lease.is_some();
        if was_leased || append.is_sealed {
            append.look(self);
            if was_leased && append.lease.is_none() {
                release(append, &mut Vec::new(), self);
                append = lock(&self.append);
            }
        }
        append
    }

    /// Takes note of what the holder of a lease has appended, if there is a lease.
    pub(crate) fn look_if_leased(&self) {
        if self.status().leased() {
            drop(self.look());
        }
    }

    /// Tells the holder of a lease how many readers are attached.
    pub(crate) fn tell_readers(&self) {
        if self.status().leased() {
            lock(&self.append).tell_readers(self);
        }
    }
}
