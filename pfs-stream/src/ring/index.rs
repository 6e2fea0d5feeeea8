//! Index of a ring: where each chunk starts, and when it was appended.
//!
//! Entry `s % entries` holds the offset where chunk `s` starts and the time when it was appended.
//! The entry after the newest chunk holds head, so chunk `s` is `start(s)..start(s + 1)`.
//!
//! # Two indexes
//!
//! An index has room for a whole ring of small chunks. Large chunks use few of its entries at a
//! time, and still walk through all of them: memory that is fresh at first, and seldom in a cache
//! later. A ring that holds large chunks by reference therefore begins with a first index, which
//! has one entry for each large chunk that fits. More chunks than that must include smaller ones.
//! When the first index runs out of entries, the writer grows:
//!
//! 1. copy the entries from tail to head into the full-size index;
//! 2. store `GROWN` (release), and never touch the first index again;
//! 3. go on with the append, which ends by publishing head (release).
//!
//! A reader that has seen head `h` loads `GROWN` (acquire), and looks up chunks up to `h` in the
//! index that `GROWN` names.
//!
//! - `GROWN` names the first index: the reader has seen no append after step 3, so `h` is not
//!   beyond the head of step 1. The first index has all entries from tail to `h`, except those that
//!   an append before step 1 overwrote. That append has announced the overwritten chunks in tail,
//!   as every append does.
//! - `GROWN` names the full-size index: the reader also sees the copies of step 1. Entries of
//!   chunks before the tail of step 1 are missing. A reader that looks up such a chunk has
//!   acquired, with `GROWN`, a tail beyond that chunk, and notices in its second load of tail.

use std::ops::Range;

/// The place of an index in the memory of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// The word where the index begins.
    at: usize,
    entries: usize,
}

impl Index {
    /// An index with `entries` entries of two words each, from word `at` on.
    pub(super) fn new(at: usize, entries: u64) -> Self {
        Self { at, entries: entries as usize }
    }

    /// The most chunks that have entries in this index. One entry is taken by head.
    pub(super) fn max_chunks(self) -> u64 {
        self.entries as u64 - 1
    }

    /// The words of the index.
    pub(super) fn words(self) -> Range<usize> {
        self.at..self.at + 2 * self.entries
    }

    /// The entry of chunk `seq`.
    pub(super) fn entry_of(self, seq: u64) -> usize {
        (seq % self.entries as u64) as usize
    }

    /// The entry after `entry`, wrapping around.
    #[inline]
    pub(super) fn entry_after(self, entry: usize) -> usize {
        if entry + 1 == self.entries { 0 } else { entry + 1 }
    }

    /// The word with the offset where the chunk of this entry starts.
    #[inline]
    pub(super) fn start_at(self, entry: usize) -> usize {
        self.at + 2 * entry
    }

    /// The word with the time when the chunk of this entry was appended.
    #[inline]
    pub(super) fn time_at(self, entry: usize) -> usize {
        self.start_at(entry) + 1
    }

    /// The word with the offset where chunk `seq` starts.
    pub(super) fn start_of(self, seq: u64) -> usize {
        self.start_at(self.entry_of(seq))
    }

    /// The word with the time when chunk `seq` was appended.
    pub(super) fn time_of(self, seq: u64) -> usize {
        self.time_at(self.entry_of(seq))
    }
}
