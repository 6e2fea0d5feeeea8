//! Large chunks that a ring of one process holds by reference, so that neither side copies them.
//!
//! Gain: 43 times the throughput in chunks of 64 KiB to one reader, docs/bench/optimisations.md
//!
//! Where such a chunk would lie in the ring's data, nothing lies; the reference is in a cell of a
//! table beside it. Chunk `s` has cell `s % cells`. If that is still taken, the chunk is copied
//! into the data like any other. All else is as ever: index, head and tail say what can be read.
//!
//! A reference cannot be copied first and checked afterwards, as bytes can: while a reader takes
//! it, the writer must not drop it. Each reader publishes a hazard: the number of its next chunk,
//! and whether the reader is taking chunks from there on. The writer reclaims only chunks before
//! every hazard, and nobody waits. This is the scheme of hazard pointers (M. M. Michael, "Hazard
//! Pointers: Safe Memory Reclamation for Lock-Free Objects", 2004), with chunk numbers in place of
//! pointers as in hazard eras (P. Ramalhete and A. Correia, 2017).
//!
//! A reader that wants chunk `p` and those after it:
//!
//! 1. swap "taking from `p`" into its hazard (acquire, release);
//! 2. load `TAIL_SEQ`; if it is past `p`, take nothing and go to 4;
//! 3. for each chunk `s` from `p` on whose cell has the tag of `s` (acquire): clone the reference;
//! 4. store "not taking, next is `q`" in its hazard (release), `q >= p` being the chunk after the
//!    last one that it took.
//!
//! The writer, when it wants to let go of chunks that `TAIL_SEQ` has passed already, to `t`:
//!
//! 1. look at each hazard by a read-modify-write that changes nothing (acquire, release). Its bound
//!    is `p` if it is taking from `p`, and the larger of `q` and `t` if it is not. The floor is the
//!    smallest bound;
//! 2. for each chunk `s` before both the floor and tail: clear the tag, take the reference out of
//!    the cell, drop it later.
//!
//! # Why the `unsafe` here is sound
//!
//! A cell's reference is written only while its tag is 0, and read only by who saw the tag of its
//! chunk, which was stored (release) after it. So all that is to be shown is that no reader takes
//! chunk `s` from the cell while the writer lets go of it, or afterwards. Take a hazard slot, the
//! look that the floor is from, and a reader's steps 1 to 4 with `p <= s`; the look's bound was
//! past `s`.
//!
//! - The look came after the reader's step 4 in the order of changes of the hazard. The look read
//!   that store, or a change that this reader made after it and that is release as well: what the
//!   reader did happened before what the writer does now.
//! - The look came between step 1 and step 4. It saw `p`, and its bound was not past `s`:
//!   impossible.
//! - The look came before step 1. A hazard "taking from `o`" would have given a bound `o <= p <=
//!   s`, because a reader never goes back; so it said "not taking, next is `q`", and from `q <= p
//!   <= s` follows that the bound was `t > s >= p`. After such a hazard the reader's next change is
//!   a swap, that of step 1 or of an earlier time. It read what this look wrote, or what a later
//!   one did, so it came after the writer's `TAIL_SEQ` of `t`: step 2 sees a tail past `p`, and
//!   nothing is taken.
//!
//! Which chunks are let go of is decided by the last look, however long ago it was. A hazard slot
//! that was not there then is no exception: a reader that attaches lowers the floor to where it
//! starts, under the stream's lock, and it knows of the tail of that moment. A hazard slot that is
//! given up leaves the list under its lock, after which the writer knows of all that was done
//! there.

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

/// Set in a hazard whose reader is taking chunks.
const TAKING: u64 = 1;

/// A reference, and which chunk it is.
#[derive(Debug)]
struct Cell {
    /// The chunk's number and 1; 0 while the cell is empty. Written by the writer alone.
    tag: AtomicU64,
    chunk: UnsafeCell<Option<Bytes>>,
}

// SAFETY: `Bytes` can be used and dropped by any thread, by several at once; who may touch the
// cell, and when, is said above.
unsafe impl Sync for Cell {}

/// A hazard: twice the number of a chunk, and whether the reader is taking from there on. In cache
/// lines of its own, for nobody but its reader uses it often.
#[derive(Debug)]
#[repr(align(128))]
struct Hazard(AtomicU64);

/// The large chunks that a ring holds, as readers and writer share them.
#[derive(Debug)]
struct Held {
    cells: Box<[Cell]>,
    /// Not 0 while some cell is taken.
    any: AtomicUsize,
    hazards: Mutex<Vec<Arc<Hazard>>>,
}

impl Held {
    fn new(layout: Layout) -> Self {
        let most = layout.capacity().div_ceil(MIN_HELD_BYTES as u64) as usize;
        // Some more, for those that are let go of a little later.
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
        // A power of two.
        &self.cells[seq as usize & (self.cells.len() - 1)]
    }
}

/// What a ring holds, as its writer sees it: whoever has this is the one that may change cells.
#[derive(Debug)]
pub(super) struct Reclaimer {
    held: Arc<Held>,
    /// Chunks before this one were let go of.
    past: u64,
    /// No reader takes a chunk before this one, now or later.
    floor: u64,
    /// The tail when something was last let go of, and how far it moves before the next time:
    /// readers that do not move then cost little, and so does each chunk.
    looked: u64,
    pause: u64,
    /// Cells that are taken, and the bytes of what is in them, at most so many.
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

    /// A hazard slot for a reader that starts at this chunk.
    pub(super) fn hazard(&mut self, seq: u64) -> HazardSlot {
        let hazard = Arc::new(Hazard(AtomicU64::new(seq << 1)));
        lock(&self.held.hazards).push(Arc::clone(&hazard));
        self.floor = self.floor.min(seq);
        HazardSlot { held: Arc::clone(&self.held), hazard, next: seq }
    }

    /// Holds chunk `seq`, which is to be published afterwards; gives it back if it must be copied,
    /// for want of room.
    #[inline(always)]
    pub(super) fn put(&mut self, seq: u64, chunk: Bytes) -> Option<Bytes> {
        let cell = self.held.cell(seq);
        let bytes = self.bytes + chunk.len() as u64;
        if cell.tag.load(Relaxed) != 0 || bytes > self.most {
            return Some(chunk);
        }
        // SAFETY: only the writer changes cells, and this is it. The tag is 0, so no reader comes
        // to this cell; what was in it was taken out, so nothing is lost by not dropping
        // it.
        cell.chunk.with_mut(|place| unsafe { place.write(Some(chunk)) });
        cell.tag.store(seq + 1, Release);
        if self.count == 0 {
            self.held.any.store(1, Relaxed);
        }
        (self.count, self.bytes) = (self.count + 1, bytes);
        None
    }

    /// Lets go of chunks before this tail, which is published already, unless a reader may be
    /// taking them. Not each time: several at once cost less.
    #[inline(always)]
    pub(super) fn retire(&mut self, tail: Position, gone: &mut Vec<Bytes>) {
        if tail.offset - self.looked >= self.pause {
            self.reclaim(tail, gone);
        }
    }

    /// Apart, because it is seldom done.
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
            // SAFETY: only the writer changes cells, and this is it. The chunk is before tail and
            // the floor, so no reader is taking it, and what readers did here happened
            // before.
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

    /// Looks where readers are.
    #[cold]
    fn look(&mut self, tail: Position) {
        let bound = |hazard: &Arc<Hazard>| {
            // Changes nothing, but comes before or after each change that the reader makes.
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
    /// As the hazard has it.
    next: u64,
}

impl HazardSlot {
    /// Whether nothing is held. Asked after a head was seen, it knows of every chunk before that
    /// which tail has not passed.
    pub(super) fn has_none(&self) -> bool {
        self.held.any.load(Relaxed) == 0
    }

    /// Whether this chunk is held; right for each chunk before a head that was seen, as long as
    /// tail has not passed it.
    #[inline]
    pub(super) fn is_held(&self, seq: u64) -> bool {
        self.held.cell(seq).tag.load(Acquire) == seq + 1
    }

    /// Begins to take references, from chunk `seq` on, which is not before what was taken before;
    /// `None` if it is gone.
    #[inline]
    pub(super) fn take_from(&mut self, seq: u64, tail: &AtomicU64) -> Option<Taking<'_>> {
        assert!(seq >= self.next, "a reader goes forward");
        self.next = seq;
        self.hazard.0.swap((seq << 1) | TAKING, AcqRel);
        // From here on the hazard is put right even if something panics.
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

/// A reader that is taking references. Nothing of anybody else may run meanwhile, so that it does
/// not take long.
pub(super) struct Taking<'a>(&'a mut HazardSlot);

impl Taking<'_> {
    /// The chunk that comes next.
    pub(super) fn seq(&self) -> u64 {
        self.0.next
    }

    /// The reference that comes next, if that chunk is held and has no more than so many bytes.
    #[inline]
    pub(super) fn next(&mut self, most: u64) -> Option<Bytes> {
        let slot = &mut *self.0;
        if !slot.is_held(slot.next) {
            return None;
        }
        let clone = |chunk: &Option<Bytes>| {
            chunk.as_ref().filter(|chunk| chunk.len() as u64 <= most).cloned()
        };
        // SAFETY: the tag is that of a chunk from where this reader takes, and tail was not past
        // that place when it had said so: the writer does not touch the cell before the
        // reader says that it is done.
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
