//! Where things are in a ring's memory, in words of eight bytes.
//!
//! ```text
//! word 0                      HEADER             data()
//! | fixed figures | counters | index, 2 words an entry | data: byte o at o % capacity |
//! ```
//!
//! Entry `s % entries` of the index holds the offset where chunk `s` starts and the time when it was
//! appended. The entry after the newest chunk holds head, so chunk `s` is `start(s)..start(s + 1)`.

use std::ops::Range;

/// Bytes in a word, the unit of all access to shared memory.
pub(crate) const WORD: usize = 8;

// Words that different parties write lie in different pairs of cache lines. Loom tracks each word of
// each execution, so its model is packed.
const LINE: usize = if cfg!(loom) { 1 } else { 16 };

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
const HEADER: usize = if cfg!(loom) { 4 } else { 4096 / WORD };

/// Data capacities are a multiple of this many bytes.
const GRAIN: u64 = if cfg!(loom) { 8 } else { 4096 };
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
}

impl Layout {
    /// For a ring of at least `size` bytes, which is from 1 to [`MAX_SIZE`].
    pub(crate) fn new(size: u64) -> Self {
        let capacity = size.clamp(1, MAX_SIZE).next_multiple_of(GRAIN);
        Self { capacity, entries: (capacity / BYTES_PER_ENTRY).max(MIN_ENTRIES) }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The most chunks that the ring can hold; one entry is head's.
    pub(crate) fn max_chunks(&self) -> u64 {
        self.entries - 1
    }

    /// Words of the whole ring.
    pub(crate) fn words(&self) -> usize {
        self.data() + self.capacity as usize / WORD
    }

    /// Bytes of the whole ring.
    pub(crate) fn bytes(&self) -> u64 {
        (self.words() * WORD) as u64
    }

    /// The words of the index.
    pub(crate) fn index(&self) -> Range<usize> {
        HEADER..self.data()
    }

    /// The word where the data begins.
    pub(crate) fn data(&self) -> usize {
        HEADER + 2 * self.entries as usize
    }

    /// The word that holds the offset where chunk `seq` starts.
    pub(crate) fn start_of(&self, seq: u64) -> usize {
        self.start_at((seq % self.entries) as usize)
    }

    /// The word that holds the offset where the chunk of this entry starts; the next one holds its time.
    pub(crate) fn start_at(&self, entry: usize) -> usize {
        HEADER + 2 * entry
    }

    /// The word that holds the time when chunk `seq` was appended.
    pub(crate) fn time_of(&self, seq: u64) -> usize {
        self.start_of(seq) + 1
    }
}
