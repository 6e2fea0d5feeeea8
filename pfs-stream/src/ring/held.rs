//! Zero-copy chunks: a ring of one process holds large chunks by reference, and reclaims them with
//! hazards, so that neither writer nor readers copy them.
//!
//! Gain: 43 times the throughput in chunks of 64 KiB to one reader, docs/bench/optimisations.md
//!
//! The ring's data is not written where such a chunk would lie. The reference is in a cell of a
//! separate table: chunk `s` has cell `s % cells`. If that cell is still taken, the chunk is copied
//! into the data like any other chunk. Index, head and tail work as for copied chunks, and say what
//! can be read.
//!
//! A reader can copy bytes first and check them afterwards, but it cannot do so with a reference:
//! the writer must not drop the reference while a reader clones it. Each reader therefore publishes
//! a hazard: the number of its next chunk, and whether the reader is taking chunks from there on.
//! The writer reclaims only chunks before every hazard, and neither side waits. This is the scheme
//! of hazard pointers (M. M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free
//! Objects", 2004), with chunk numbers in place of pointers as in hazard eras (P. Ramalhete and A.
//! Correia, 2017).
//!
//! A reader that wants chunk `p` and the chunks after it:
//!
//! 1. swap "taking from `p`" into its hazard (acquire, release);
//! 2. load `TAIL_SEQ`; if it is past `p`, take nothing and go to 4;
//! 3. for each chunk `s` from `p` on whose cell has the tag of `s` (acquire): clone the reference;
//! 4. store "not taking, next is `q`" in its hazard (release), where `q >= p` is the chunk after
//!    the last one that it took.
//!
//! The writer, to reclaim chunks that `TAIL_SEQ`, now `t`, has already passed:
//!
//! 1. look at each hazard with a read-modify-write that changes nothing (acquire, release). The
//!    bound of a hazard is `p` if its reader is taking from `p`, and the larger of `q` and `t` if
//!    not. The floor is the smallest bound;
//! 2. for each chunk `s` before both the floor and tail: clear the tag, take the reference out of
//!    the cell, drop the reference later.
//!
//! # Why the `unsafe` here is sound
//!
//! A cell's reference is written only while its tag is 0. It is read only by a reader that saw the
//! tag of its chunk, and the tag was stored (release) after the reference. It remains to show that
//! no reader takes chunk `s` from the cell while the writer reclaims `s`, or afterwards. Consider a
//! hazard slot, the look that determined the floor, and steps 1 to 4 of a reader with `p <= s`. The
//! bound of that look was past `s`.
//!
//! - The look came after the reader's step 4 in the modification order of the hazard. The look read
//!   that store, or a later change by the same reader, which is also a release: what the reader did
//!   happened before what the writer does now.
//! - The look came between step 1 and step 4. Then the look saw `p`, and its bound was not past
//!   `s`: impossible.
//! - The look came before step 1. A hazard "taking from `o`" would have given a bound `o <= p <=
//!   s`, because a reader never goes back. So the hazard said "not taking, next is `q`". From `q <=
//!   p <= s` it follows that the bound was `t > s >= p`. After such a hazard, the next change by
//!   the reader is a swap: that of step 1 or of an earlier round. The swap read what this look
//!   wrote, or what a later look wrote, so it came after the writer's store of `t` to `TAIL_SEQ`.
//!   Step 2 therefore sees a tail past `p`, and the reader takes nothing.
//!
//! The last look decides which chunks are reclaimed, however long ago it was. A hazard slot that
//! did not exist then is no exception: a reader that attaches lowers the floor to its start, under
//! the stream's lock, and knows the tail of that moment. A hazard slot that is dropped leaves the
//! list under the list's lock; after that the writer knows of everything done through the slot.

use bytes::Bytes;

use super::{Layout, layout::MIN_HELD_BYTES};
use crate::{
    read::Position,
    sync::{
        Arc, AtomicU64, AtomicUsize, Mutex,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        UnsafeCell, lock,
    },
};

/// Set in the hazard of a reader that is taking chunks.
const TAKING: u64 = 1;

/// A reference, and the chunk that it belongs to.
#[derive(Debug)]
struct Cell {
    /// The chunk's number plus 1; 0 while the cell is empty. Written by the writer alone.
    tag: AtomicU64,
    chunk: UnsafeCell<Option<Bytes>>,
}

// SAFETY: `Bytes` can be used and dropped by any thread, and by several at once. The module
// documentation says who may touch the cell, and when.
unsafe impl Sync for Cell {}

/// A hazard: twice the number of a chunk, plus 1 while the reader is taking from there on. Has
/// cache lines of its own, because only its reader uses it often.
#[derive(Debug)]
#[repr(align(128))]
struct Hazard(AtomicU64);

/// The large chunks that a ring holds, shared by readers and writer.
#[derive(Debug)]
struct Held {
    cells: Box<[Cell]>,
    /// Nonzero while any cell is taken.
    any: AtomicUsize,
    hazards: Mutex<Vec<Arc<Hazard>>>,
}

impl Held {
    fn new(layout: Layout) -> Self {
        let most = layout.capacity().div_ceil(MIN_HELD_BYTES as u64) as usize;
        // Some spare cells, for chunks that are reclaimed a little later.
        let cells = (most + most / 8 + 1).next_power_of_two();
        let cell = || Cell { tag: AtomicU64::new(0), chunk: UnsafeCell::new(None) };
        Self {
            cells: (0..cells).map(|_| cell()).collect(),
            any: AtomicUsize::new(0),
            hazards: Mutex::new(Vec::new()),
        }
    }

    #[inline]
    fn cell(&self, seq: u64) -> &Cell {
        // The number of cells is a power of two.
        &self.cells[seq as usize & (self.cells.len() - 1)]
    }
}

/// The writer's side of the held chunks: only the owner of the `Reclaimer` may change cells.
#[derive(Debug)]
pub(super) struct Reclaimer {
    held: Arc<Held>,
    /// Chunks before this one were reclaimed.
    past: u64,
    /// No reader takes a chunk before this one, now or later.
    floor: u64,
    /// The tail offset at the last reclaim, and how far tail must move before the next one. The
    /// pause keeps the cost per chunk low, also while readers do not move.
    looked: u64,
    pause: u64,
    /// The number of taken cells, the bytes of their chunks, and the limit on those bytes.
    count: usize,
    bytes: u64,
    most: u64,
}

impl Reclaimer {
    pub(super) fn new(layout: Layout) -> Self {
        let capacity = layout.capacity();
        Self {
            held: Arc::new(Held::new(layout)),
            past: 0,
            floor: u64::MAX,
            looked: 0,
            pause: capacity / 16,
            count: 0,
            bytes: 0,
            most: capacity + capacity / 8,
        }
    }

    /// A hazard slot for a reader that starts at chunk `seq`.
    pub(super) fn hazard(&mut self, seq: u64) -> HazardSlot {
        let hazard = Arc::new(Hazard(AtomicU64::new(seq << 1)));
        lock(&self.held.hazards).push(Arc::clone(&hazard));
        self.floor = self.floor.min(seq);
        HazardSlot { held: Arc::clone(&self.held), hazard, next: seq }
    }

    /// Holds chunk `seq`, which must be published afterwards. Returns the chunk if there is no room
    /// to hold it, and it must be copied.
    #[inline(always)]
    pub(super) fn put(&mut self, seq: u64, chunk: Bytes) -> Option<Bytes> {
        let cell = self.held.cell(seq);
        let bytes = self.bytes + chunk.len() as u64;
        if cell.tag.load(Relaxed) != 0 || bytes > self.most {
            return Some(chunk);
        }
        // SAFETY: only the writer changes cells, and this is the writer. The tag is 0, so no reader
        // touches this cell. The previous reference was taken out, so overwriting without a drop
        // leaks nothing.
        cell.chunk.with_mut(|place| unsafe { place.write(Some(chunk)) });
        cell.tag.store(seq + 1, Release);
        if self.count == 0 {
            self.held.any.store(1, Relaxed);
        }
        (self.count, self.bytes) = (self.count + 1, bytes);
        None
    }

    /// Reclaims chunks before `tail`, which is published already, except those that a reader may be
    /// taking. Does so only from time to time, because reclaiming several chunks at once costs less
    /// than one at a time.
    #[inline(always)]
    pub(super) fn retire(&mut self, tail: Position, gone: &mut Vec<Bytes>) {
        if tail.offset - self.looked >= self.pause {
            self.reclaim(tail, gone);
        }
    }

    /// Kept out of line, because it seldom runs.
    #[inline(never)]
    fn reclaim(&mut self, tail: Position, gone: &mut Vec<Bytes>) {
        self.looked = tail.offset;
        if self.count == 0 {
            self.past = tail.seq;
            return;
        }
        if self.floor < tail.seq {
            self.look(tail);
        }
        let to = tail.seq.min(self.floor);
        while self.past < to {
            let cell = self.held.cell(self.past);
            self.past += 1;
            if cell.tag.load(Relaxed) != self.past {
                continue;
            }
            cell.tag.store(0, Relaxed);
            // SAFETY: only the writer changes cells, and this is the writer. The chunk is before
            // tail and the floor, so no reader is taking it, and what readers did in this cell
            // happened before.
            let Some(chunk) = cell.chunk.with_mut(|place| unsafe { (*place).take() }) else {
                continue;
            };
            (self.count, self.bytes) = (self.count - 1, self.bytes - chunk.len() as u64);
            gone.push(chunk);
        }
        if self.count == 0 {
            self.held.any.store(0, Relaxed);
        }
    }

    /// Looks at all hazards, and sets the floor.
    #[cold]
    fn look(&mut self, tail: Position) {
        let bound = |hazard: &Arc<Hazard>| {
            // Changes nothing, but is ordered before or after each change that the reader makes.
            let word = hazard.0.fetch_or(0, AcqRel);
            if word & TAKING != 0 { word >> 1 } else { tail.seq.max(word >> 1) }
        };
        self.floor = lock(&self.held.hazards).iter().map(bound).min().unwrap_or(u64::MAX);
    }
}

/// The hazard slot of a reader that takes references.
#[derive(Debug)]
pub(crate) struct HazardSlot {
    held: Arc<Held>,
    hazard: Arc<Hazard>,
    /// The same number as in the hazard.
    next: u64,
}

impl HazardSlot {
    /// Whether no chunk is held. If called after a head was seen, the answer covers every chunk
    /// before that head which tail has not passed.
    pub(super) fn has_none(&self) -> bool {
        self.held.any.load(Relaxed) == 0
    }

    /// Whether chunk `seq` is held. Correct for each chunk before a head that was seen, until tail
    /// passes the chunk.
    #[inline]
    pub(super) fn is_held(&self, seq: u64) -> bool {
        self.held.cell(seq).tag.load(Acquire) == seq + 1
    }

    /// Begins to take references, from chunk `seq` on. `None` if that chunk is gone.
    #[inline]
    pub(super) fn take_from(&mut self, seq: u64, tail: &AtomicU64) -> Option<Taking<'_>> {
        assert!(seq >= self.next, "a reader only moves forward");
        self.next = seq;
        self.hazard.0.swap((seq << 1) | TAKING, AcqRel);
        // From here on, dropping `taking` resets the hazard even if something panics.
        let taking = Taking(self);
        (tail.load(Relaxed) <= seq).then_some(taking)
    }
}

impl Drop for HazardSlot {
    fn drop(&mut self) {
        let mut hazards = lock(&self.held.hazards);
        if let Some(at) = hazards.iter().position(|hazard| Arc::ptr_eq(hazard, &self.hazard)) {
            hazards.swap_remove(at);
        }
    }
}

/// A reader that is taking references. No foreign code may run in the meantime, so that the hazard
/// does not block reclaiming for long.
pub(super) struct Taking<'a>(&'a mut HazardSlot);

impl Taking<'_> {
    /// The number of the next chunk.
    pub(super) fn seq(&self) -> u64 {
        self.0.next
    }

    /// The next reference, if that chunk is held and has at most `most` bytes.
    #[inline]
    pub(super) fn next(&mut self, most: u64) -> Option<Bytes> {
        let slot = &mut *self.0;
        if !slot.is_held(slot.next) {
            return None;
        }
        let clone = |chunk: &Option<Bytes>| {
            chunk.as_ref().filter(|chunk| chunk.len() as u64 <= most).cloned()
        };
        // SAFETY: the tag is that of a chunk at or after the position in the hazard, and tail was
        // not past that position after the hazard was set. So the writer does not touch the cell
        // before this reader resets the hazard.
        let chunk = slot.held.cell(slot.next).chunk.with(|place| clone(unsafe { &*place }))?;
        slot.next += 1;
        Some(chunk)
    }
}

impl Drop for Taking<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.hazard.0.store(self.0.next << 1, Release);
    }
}
