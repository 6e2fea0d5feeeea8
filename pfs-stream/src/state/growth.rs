//! Ring growth: how a stream moves to larger rings.
//!
//! A stream begins with a ring of a few hundred bytes. Before an append would drop history that
//! fits the configured sizes, the stream moves to a larger ring: a new ring is filled with a copy
//! of what the old ring holds, and then replaces it. The copying begins when the old ring is three
//! quarters full. Each append then copies a part in proportion to its own size. So no append waits
//! for a whole ring to be copied, unless the append is itself as large as a good part of the ring.
//!
//! Readers find [`Status::moved`](crate::ring::Status::moved) in the old ring, and continue in the
//! new ring, which has everything. Readers in other processes first read the rest of the old ring,
//! and then ask for the next ring. While there are such readers, new rings are in memory that can
//! be shared, if the system has any; otherwise those readers continue in this process. A ring of
//! full size is in memory that can be shared, too. A stream leaves a full-size ring only for a
//! lease: when a lease is granted, and with the first append after the lease ended.
//!
//! An old ring counts towards the budgets until the last reader has left it. Growth makes each ring
//! at least four times as large as the one before, so all rings left by growth together are at most
//! a third of the stream's ring. Of the full-size rings left by leases, only the last is kept and
//! counted ([`Shared::forget_rings`]).

use std::{io, thread};

use super::{Appending, Shared};
use crate::{
    budget::{Budget, Reservation},
    config::StreamConfig,
    error::WriteError,
    read::Position,
    ring::{Layout, Ring, RingWriter, Status},
    sync::{Ordering, lock},
};

/// Bytes and chunks that an append copies, in addition to a multiple of its own size.
const COPY_STEP_BYTES: u64 = if cfg!(loom) { 4 } else { 64 * 1024 };
const COPY_STEP_CHUNKS: u64 = if cfg!(loom) { 1 } else { 1024 };
const COPY_FACTOR: u64 = 4;

/// A shared ring of at most this many bytes is allocated as a whole before a stream moves there. If
/// a page is missing in a larger ring later, the process is killed, as for any other memory. With
/// `reserve`, all memory is allocated at once.
pub(crate) const MAX_ALLOCATED_BYTES: u64 = 64 * 1024 * 1024;

/// After a lease, if there is no memory for a ring, the stream divides the size of the ring by this
/// factor and tries again.
const SEALED_SHRINK_FACTOR: u64 = 4;

/// Rings of at least this many bytes are freed by a separate thread.
const FREE_IN_THREAD_BYTES: u64 = 16 * 1024 * 1024;

/// Growth of a stream's ring to full size.
#[derive(Debug)]
pub(crate) struct Growth {
    /// An append beyond this position has to do a part of the growth.
    at: Position,
    /// The ring that is being filled.
    next: Option<Box<Next>>,
    /// The layout of the largest ring.
    full: Layout,
    /// Whether there was no memory for a larger ring, so that history is dropped although the
    /// stream has room for it.
    is_stuck: bool,
    /// How often the stream moved to another ring.
    pub(crate) moves: u64,
}

/// A ring that is being filled.
#[derive(Debug)]
pub(crate) struct Next {
    writer: RingWriter,
    /// Bytes of the ring that the system has allocated, or that need not be allocated.
    allocated: u64,
    /// Whether the ring was made for readers of other processes too. If it is not shared
    /// nevertheless, there was no memory that could be shared.
    is_for_others: bool,
}

impl Next {
    fn new(ring: Ring, tail: Position, is_for_others: bool) -> Self {
        let all = ring.layout().bytes();
        let allocated = if all <= MAX_ALLOCATED_BYTES { 0 } else { all };
        Self { writer: RingWriter::from(ring, tail), allocated, is_for_others }
    }

    fn layout(&self) -> Layout {
        self.writer.ring().layout()
    }

    /// Copies up to `bytes` and `chunks` of another ring, and has the system allocate a
    /// proportional part of this ring's memory. Returns whether both are complete.
    fn fill(
        &mut self,
        other: &RingWriter,
        newest: u64,
        bytes: u64,
        chunks: u64,
    ) -> io::Result<bool> {
        let all = self.layout().bytes();
        if self.allocated < all {
            let times = 1 + all / other.ring().layout().capacity();
            let to = all.min(self.allocated.saturating_add(bytes.saturating_mul(times)));
            self.writer.ring().allocate(self.allocated, to)?;
            self.allocated = to;
        }
        Ok(self.writer.follow(other, newest, bytes, chunks) && self.allocated == all)
    }
}

/// A position that no stream ever reaches.
const NEVER: Position = Position { seq: u64::MAX, offset: u64::MAX };

impl Growth {
    /// The growth of a stream whose ring has `layout` now, and can grow to `full`.
    pub(crate) fn new(layout: Layout, full: Layout) -> Self {
        let mut growth = Self { at: NEVER, next: None, full, is_stuck: false, moves: 0 };
        growth.begin(layout, Position::default());
        growth
    }

    /// Starts over for a ring of this layout whose history begins at `tail`. Nothing is copied
    /// until the ring is three quarters full.
    fn begin(&mut self, layout: Layout, tail: Position) {
        (self.next, self.is_stuck) = (None, false);
        let part = |all: u64| all - all / 4;
        self.at = if layout == self.full {
            NEVER
        } else {
            let (bytes, chunks) = (part(layout.capacity()), part(layout.max_chunks()));
            Position {
                seq: tail.seq.saturating_add(chunks),
                offset: tail.offset.saturating_add(bytes),
            }
        };
    }

    /// Makes every append call [`grow`](Appending::grow) from now on.
    pub(crate) fn is_due_always(&mut self) {
        (self.at, self.next) = (Position::default(), None);
    }

    /// Bytes of the ring that is being filled.
    pub(crate) fn memory(&self) -> u64 {
        self.next.as_ref().map_or(0, |next| next.writer.ring().layout().bytes())
    }

    /// The share of a budget of the ring that is being filled.
    pub(crate) fn charged_to(&self, budget: &Budget) -> u64 {
        self.next.as_ref().map_or(0, |next| next.writer.ring().charged_to(budget))
    }

    /// Stops growing. Returns the ring that was being filled; drop it after the lock is released.
    #[must_use]
    pub(crate) fn stop(&mut self) -> Option<Box<Next>> {
        self.at = NEVER;
        self.next.take()
    }

    /// Whether an append of `bytes` and `chunks` has to do a part of the growth.
    #[inline(always)]
    pub(crate) fn is_due(&self, head: Position, bytes: u64, chunks: u64) -> bool {
        head.offset + bytes > self.at.offset || head.seq + chunks > self.at.seq
    }
}

impl Appending {
    /// Ends a lease, and moves from the ring of a lease that has ended. Otherwise copies a part of
    /// what the ring holds into a larger ring, and moves there once the copy is complete. False if
    /// `block` readers must read more first.
    #[cold]
    pub(super) fn grow(
        &mut self,
        bytes: u64,
        chunks: u64,
        shared: &Shared,
    ) -> Result<bool, WriteError> {
        self.end_lease(shared, None);
        if self.is_sealed {
            return self.leave_sealed(bytes, chunks, shared);
        }
        let layout = self.ring.ring().layout();
        let (head, tail) = (self.ring.head(), self.ring.tail());
        // The append together with everything that is held, if nothing is dropped.
        let (all_bytes, all_chunks) =
            (head.offset - tail.offset + bytes, head.seq - tail.seq + chunks);
        let full = self.growth.full;
        // Readers of other processes can follow only to rings that they can map.
        let is_read_elsewhere = shared.shm_readers.load(Ordering::Relaxed) > 0;
        let has_room_for_all = |next: Layout| next == full || next.has_room(all_bytes, all_chunks);
        let found = self.growth.next.take().filter(|next| next.is_for_others || !is_read_elsewhere);
        let next = match found {
            Some(next) if has_room_for_all(next.layout()) => Ok(next),
            found => {
                let larger = layout.larger(full, bytes, chunks, is_read_elsewhere);
                let charge = shared.charge(larger);
                let current = self.ring.ring();
                match charge.and_then(|charge| {
                    shared.larger_ring(current, larger, charge, is_read_elsewhere)
                }) {
                    Ok(ring) => Ok(Box::new(Next::new(ring, tail, is_read_elsewhere))),
                    // The history is shorter until there is memory again.
                    Err(error) => {
                        found.filter(|next| next.layout().has_room(bytes, chunks)).ok_or(error)
                    }
                }
            }
        };
        // Copy everything at once if the append would drop history that fits into the other ring,
        // unless growth has been stuck, so that history was dropped before.
        let would_drop = self.ring.tail_after(bytes, chunks as usize).seq > self.ring.tail().seq;
        let (most_bytes, most_chunks) = if would_drop && !self.growth.is_stuck
            || !layout.has_room(bytes, chunks)
        {
            (u64::MAX, u64::MAX)
        } else {
            let part = |least: u64, own: u64| least.saturating_add(own.saturating_mul(COPY_FACTOR));
            (part(COPY_STEP_BYTES, bytes), part(COPY_STEP_CHUNKS, chunks))
        };
        let filled = next.and_then(|mut next| {
            match next.fill(&self.ring, self.newest, most_bytes, most_chunks) {
                Ok(is_filled) => Ok((next, is_filled)),
                Err(_) => Err(WriteError::NoMemory { needed: next.layout().bytes() }),
            }
        });
        match filled {
            Ok((next, true)) => self.move_to(next.writer, shared),
            Ok((next, false)) => {
                self.growth.next = Some(next);
                self.growth.at = Position::default();
            }
            Err(error) if !layout.has_room(bytes, chunks) => return Err(error),
            Err(_) => {
                self.growth.is_stuck = true;
                let (some, few) = (layout.capacity() / 4, layout.max_chunks() / 4);
                self.growth.at = Position { seq: head.seq + few, offset: head.offset + some };
            }
        }
        Ok(true)
    }

    /// Moves to a ring of the stream's own after a lease. That ring has full size or, if memory is
    /// short, is the largest that there is memory for, with a shorter history. It holds at least
    /// what `block` readers have not read. False if there is no memory for that: the append must
    /// then wait until they have read everything. After that, the stream needs only a ring for the
    /// append itself. That ring replaces the leased one even if the budgets are exceeded: a lease
    /// must not make the stream refuse appends that it took before.
    fn leave_sealed(
        &mut self,
        bytes: u64,
        chunks: u64,
        shared: &Shared,
    ) -> Result<bool, WriteError> {
        self.ring.observe_announced();
        let head = self.ring.head();
        for is_last in [false, true] {
            let floor = self.slowest_block_reader(shared);
            match self.leave_with_all_from(floor, bytes, chunks, shared) {
                Ok(()) => break,
                Err(error) if floor >= head.seq || is_last => return Err(error),
                // The readers have read everything meanwhile: try once more.
                Err(_) if self.has_room_up_to(head.seq, shared) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Moves to a ring of the stream's own after a lease. The ring holds at least the history from
    /// chunk `floor` on, and has room for an append.
    fn leave_with_all_from(
        &mut self,
        floor: u64,
        bytes: u64,
        chunks: u64,
        shared: &Shared,
    ) -> Result<(), WriteError> {
        let is_read_elsewhere = shared.shm_readers.load(Ordering::Relaxed) > 0;
        let (full, head) = (self.growth.full, self.ring.head());
        let kept = self.ring.start_if_possible(floor);
        let (all_bytes, all_chunks) =
            (head.offset - kept.offset + bytes, head.seq - kept.seq + chunks);
        let least = full.for_at_least(all_bytes, all_chunks, is_read_elsewhere);
        let (mut layout, mut size) = (full, full.capacity());
        loop {
            match self.leave_for(layout, bytes, chunks, false, shared) {
                Err(_) if layout == least && floor >= head.seq => {
                    return self.leave_for(layout, bytes, chunks, true, shared);
                }
                Err(error) if layout == least => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
            size /= SEALED_SHRINK_FACTOR;
            let next = full.for_at_least(size, chunks, is_read_elsewhere);
            layout = if size > least.capacity() && next.has_room_of(least) { next } else { least };
        }
    }

    /// Moves to a ring of this layout after a lease. A ring of full size gets all of the history; a
    /// smaller ring gets as much of it as fits beside the append. With `is_in_place`, the ring is
    /// charged whatever the limits are, because the leased ring is given back next.
    fn leave_for(
        &mut self,
        layout: Layout,
        bytes: u64,
        chunks: u64,
        is_in_place: bool,
        shared: &Shared,
    ) -> Result<(), WriteError> {
        let is_read_elsewhere = shared.shm_readers.load(Ordering::Relaxed) > 0;
        let needed = layout.bytes();
        let charge = match is_in_place {
            true => shared.charge_anyway(needed),
            false => shared.charge(layout)?,
        };
        let ring = shared.larger_ring(self.ring.ring(), layout, charge, is_read_elsewhere)?;
        let from = if layout == self.growth.full {
            self.ring.tail()
        } else {
            self.ring.oldest_with_room(layout, bytes, chunks)
        };
        let mut next = Next::new(ring, from, is_read_elsewhere);
        match next.fill(&self.ring, self.newest, u64::MAX, u64::MAX) {
            Ok(_) => self.move_to(next.writer, shared),
            Err(_) => return Err(WriteError::NoMemory { needed }),
        }
        Ok(())
    }

    /// Moves to another ring, which holds everything that this ring holds. The caller must still
    /// wake sleeping readers, except readers of other processes that sleep on the old ring.
    pub(crate) fn move_to(&mut self, next: RingWriter, shared: &Shared) {
        next.ring().begin_as(self.ring.ring());
        self.replace_ring(next, self.status.as_moved(), shared);
    }

    /// Lets the stream, which is still empty, begin at this position.
    #[cfg(feature = "host")]
    pub(crate) fn begin_at(&mut self, at: Position) {
        let ring = self.ring.ring().clone();
        self.growth.begin(ring.layout(), at);
        self.ring = RingWriter::from(ring, at);
    }

    /// Moves to an empty ring that begins at `at`, a later position. Readers read the rest of this
    /// ring, and are then told of a gap. Memory for the ring is charged whatever the limits are,
    /// because this ring is given back once no reader needs it.
    ///
    /// # Errors
    ///
    /// The system has no memory.
    #[cfg(feature = "host")]
    pub(crate) fn skip_to(&mut self, at: Position, shared: &Shared) -> Result<(), WriteError> {
        let is_read_elsewhere = shared.shm_readers.load(Ordering::Relaxed) > 0;
        let (full, first) = (self.growth.full, self.growth.full.initial());
        let layout = full.for_at_least(first.capacity(), first.max_chunks(), is_read_elsewhere);
        let charge = shared.charge_anyway(layout.bytes());
        let ring = shared.larger_ring(self.ring.ring(), layout, charge, is_read_elsewhere)?;
        let next = RingWriter::skipping_to(ring, at);
        if self.ring.head().seq > self.ring.tail().seq {
            self.skipped = Some(self.ring.ring().clone());
        }
        self.replace_ring(next, self.status.as_skipped(), shared);
        // Usually no reader lags.
        let forgotten = self.forget_skipped(shared);
        if let Some(left) = forgotten {
            free(left.layout(), left);
        }
        Ok(())
    }

    /// Goes on in another ring, and leaves this status in the ring before.
    fn replace_ring(&mut self, next: RingWriter, status: Status, shared: &Shared) {
        next.ring().set_status(self.status);
        self.growth.begin(next.ring().layout(), next.tail());
        self.growth.moves += 1;
        self.has_to_wake |= self.waiting > 0 || self.is_sealed;
        self.is_sealed = false;
        let left = std::mem::replace(&mut self.ring, next);
        left.ring().set_status(status);
        shared.leave(left.ring(), self.ring.ring());
        free(left.ring().layout(), left);
        #[cfg(all(target_os = "linux", not(any(miri, loom))))]
        for ring in shared.forget_rings(self) {
            free(ring.layout(), ring);
        }
    }
}

/// Frees a ring of this layout, unless others still hold it. A large ring is freed by a separate
/// thread, because the system takes its time to free it: without the thread, the append that moved
/// a stream from 256 MiB to 1 GiB took 15 to 27 ms of processor time, while the longest of all
/// other appends took 2 ms.
fn free(layout: Layout, ring: impl Send + 'static) {
    if layout.bytes() >= FREE_IN_THREAD_BYTES {
        // If no thread can be started, the ring is freed here.
        let _ = thread::Builder::new().name("pfs-free".to_owned()).spawn(move || drop(ring));
    }
}

impl Shared {
    /// Takes memory for a ring from the budgets of the stream.
    pub(crate) fn charge(&self, layout: Layout) -> Result<Vec<Reservation>, WriteError> {
        let needed = layout.bytes();
        let charge =
            self.budgets.iter().map(|budget| budget.reserve(needed)).collect::<Option<Vec<_>>>();
        charge.ok_or(WriteError::NoMemory { needed })
    }

    /// Takes memory for a ring from the budgets of the stream, whatever their limits are.
    fn charge_anyway(&self, needed: u64) -> Vec<Reservation> {
        let beyond = |budget: &Budget| budget.reserve_beyond(needed, u64::MAX);
        self.budgets.iter().filter_map(beyond).collect()
    }

    /// Takes memory for the ring after `current`, with this charge.
    fn larger_ring(
        &self,
        current: &Ring,
        layout: Layout,
        charge: Vec<Reservation>,
        is_read_elsewhere: bool,
    ) -> Result<Ring, WriteError> {
        // The descriptor of the current ring is closed when the stream leaves that ring.
        let has_descriptor = current.is_shared();
        let ring = if is_read_elsewhere || layout == self.config.layout() {
            shareable_ring(layout, charge, (!has_descriptor).then_some(&self.descriptors))
        } else {
            own_ring(layout, charge)
        };
        ring.map_err(|_| WriteError::NoMemory { needed: layout.bytes() })
    }

    /// Wakes readers of other processes that sleep on a ring that the stream has left. Passes the
    /// stream's descriptor on to the next ring, if that ring needs one.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    fn leave(&self, left: &Ring, next: &Ring) {
        if !left.is_shared() {
            return;
        }
        left.memory().close_file();
        let descriptor = left.take_charge(&self.descriptors);
        let next = Some(next).filter(|next| next.is_shared());
        if let (Some(descriptor), Some(next)) = (descriptor, next)
            && next.charged_to(&self.descriptors) == 0
        {
            next.add_charge(descriptor);
        }
        *lock(&self.shared_ring) = next.cloned();
        if self.shm_readers.load(Ordering::Relaxed) > 0 {
            left.notify();
        }
    }

    /// Notifies as if there were a sleeper.
    #[cfg(loom)]
    fn leave(&self, left: &Ring, _: &Ring) {
        left.notify();
    }

    #[cfg(not(any(loom, all(target_os = "linux", not(miri)))))]
    fn leave(&self, _: &Ring, _: &Ring) {}
}

/// Takes memory for a ring of this process.
fn own_ring(layout: Layout, charge: Vec<Reservation>) -> io::Result<Ring> {
    let ring = Ring::own(layout)?;
    ring.charge(charge);
    Ok(ring)
}

/// Takes memory for a ring that can be shared with other processes, if the system has any, and if
/// there is a descriptor for the ring or none is needed.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
fn shareable_ring(
    layout: Layout,
    mut charge: Vec<Reservation>,
    descriptors: Option<&Budget>,
) -> io::Result<Ring> {
    let descriptor = descriptors.map(|descriptors| descriptors.reserve(1));
    if let Some(None) = descriptor {
        return own_ring(layout, charge);
    }
    let Ok(ring) = Ring::shared(layout) else { return own_ring(layout, charge) };
    charge.extend(descriptor.flatten());
    ring.charge(charge);
    Ok(ring)
}

#[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
fn shareable_ring(
    layout: Layout,
    charge: Vec<Reservation>,
    _: Option<&Budget>,
) -> io::Result<Ring> {
    own_ring(layout, charge)
}

/// Takes memory for the first ring of a stream.
pub(crate) fn first_ring(
    config: &StreamConfig,
    charge: Vec<Reservation>,
    descriptors: &Budget,
) -> io::Result<Ring> {
    let layout = config.first_layout();
    if layout != config.layout() {
        return own_ring(layout, charge);
    }
    let ring = shareable_ring(layout, charge, Some(descriptors))?;
    if config.reserve || layout.bytes() <= MAX_ALLOCATED_BYTES {
        ring.allocate(0, u64::MAX)?;
    }
    Ok(ring)
}
