//! Where things are in a ring's memory, in words of eight bytes.
//!
//! ```text
//! word 0     HEADER                     data()
//! | counters | index, 2 words an entry | data: byte o at o % capacity | first index, if any |
//! ```

use std::ops::Range;

use super::Index;

/// Bytes in a word, the unit of all access to shared memory.
pub(crate) const WORD: usize = 8;

// Words that different parties write lie in different pairs of cache lines. Loom tracks each word of
// each execution, so its model is packed.
const LINE: usize = if cfg!(loom) { 1 } else { 16 };

/// Whether the first index, of a ring that has one, was left for the other. Written once.
pub(crate) const GROWN: usize = 0;
/// Sequence number of the oldest chunk that may be trusted.
pub(crate) const TAIL_SEQ: usize = LINE;
/// Sequence number that the next chunk will get.
pub(crate) const HEAD_SEQ: usize = 2 * LINE;
/// The [`Status`](super::Status) of the stream, beside head because readers look at both.
pub(crate) const STATUS: usize = 2 * LINE + 1;
/// What sleeping readers of other processes wait on; only ever touched as a futex of 32 bits.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) const BELL: usize = 3 * LINE;
/// Words before the index: a page.
pub(super) const HEADER: usize = if cfg!(loom) { 4 } else { 4096 / WORD };

/// Data capacities are a multiple of this many bytes.
const GRAIN: u64 = if cfg!(loom) { 8 } else { 4096 };
/// Where a ring holds chunks by reference: those of so many bytes and more.
pub(crate) const MIN_HELD: usize = if cfg!(loom) { 8 } else { 4096 };
/// One index entry for so many bytes of data; smaller chunks than that on average shorten the history.
const BYTES_PER_ENTRY: u64 = 64;
const MIN_ENTRIES: u64 = if cfg!(loom) { 4 } else { 1024 };

/// The largest buffer size of a stream, in bytes: 1 TiB.
pub(crate) const MAX_SIZE: u64 = 1 << 40;

/// The sizes of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of data.
    capacity: u64,
    /// Entries of the index.
    entries: u64,
    /// Entries of the first index; 0 if there is none.
    first: u64,
}

impl Layout {
    /// For a ring of at least `size` bytes, which is from 1 to [`MAX_SIZE`].
    pub(crate) fn new(size: u64) -> Self {
        let capacity = size.clamp(1, MAX_SIZE).next_multiple_of(GRAIN);
        Self { capacity, entries: (capacity / BYTES_PER_ENTRY).max(MIN_ENTRIES), first: 0 }
    }

    /// With a first index, for as many chunks as are held at most.
    pub(crate) fn with_first_index(self) -> Self {
        let most = self.capacity.div_ceil(MIN_HELD as u64);
        Self { first: (most + 1).min(self.entries), ..self }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The most chunks that the ring can hold.
    pub(crate) fn max_chunks(&self) -> u64 {
        self.index().max_chunks()
    }

    /// Words of the whole ring.
    pub(crate) fn words(&self) -> usize {
        self.data().end + 2 * self.first as usize
    }

    /// Bytes of the whole ring.
    pub(crate) fn bytes(&self) -> u64 {
        (self.words() * WORD) as u64
    }

    /// The index in which a new ring has its entries, if it is not the one that has room for all that can be: that of a ring
    /// that holds large chunks by reference.
    pub(crate) fn first_index(&self) -> Option<Index> {
        (self.first > 0).then(|| Index::new(self.data().end, self.first))
    }

    pub(crate) fn index(&self) -> Index {
        Index::new(HEADER, self.entries)
    }

    /// The words of the data.
    pub(crate) fn data(&self) -> Range<usize> {
        let begin = HEADER + 2 * self.entries as usize;
        begin..begin + self.capacity as usize / WORD
    }
}
