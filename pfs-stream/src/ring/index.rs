//! The index of a ring: where each chunk starts, and when it was appended.
//!
//! Entry `s % entries` holds the offset where chunk `s` starts and the time when it was appended.
//! The entry after the newest chunk holds head, so chunk `s` is `start(s)..start(s + 1)`.
//!
//! # Two of them
//!
//! An index has room for the small chunks of a whole ring. Large ones leave most of it unused, and
//! still walk through all of it: memory that is fresh at first, and seldom in a cache later. So a
//! ring that holds large chunks by reference begins with a first index, which has an entry for each
//! chunk of that kind. When there are more chunks than it has entries, which must be smaller ones,
//! the writer grows:
//!
//! 1. copy the entries from tail to head into the index that has room;
//! 2. store `GROWN` (release), and never touch the first index again;
//! 3. go on with the append, which ends by publishing head (release).
//!
//! A reader that has seen head `h` loads `GROWN` (acquire), and looks up chunks to `h` in the index
//! that it names.
//!
//! - The first one: no append after step 3 was seen, so `h` is not beyond the head of step 1. All
//!   entries from tail to `h` are there, or were overwritten by an append that came before step 1
//!   and has announced it in tail, as ever.
//! - The other one: the copies of step 1 are there too. Entries of chunks before the tail of that
//!   moment are not, but who looks those up has acquired a tail beyond them with `GROWN`, and finds
//!   that out in the second look at tail.

use std::ops::Range;

/// Where in a ring's memory an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// The word where it begins.
    at: usize,
    entries: usize,
}

impl Index {
    /// With so many entries of two words, from this word on.
    pub(super) fn new(at: usize, entries: u64) -> Self {
        Self { at, entries: entries as usize }
    }

    /// The most chunks that have entries here; one entry is head's.
    pub(super) fn max_chunks(self) -> u64 {
        self.entries as u64 - 1
    }

    /// The words of it.
    pub(super) fn words(self) -> Range<usize> {
        self.at..self.at + 2 * self.entries
    }

    /// Which entry is that of chunk `seq`.
    pub(super) fn entry_of(self, seq: u64) -> usize {
        (seq % self.entries as u64) as usize
    }

    /// The entry that follows.
    #[inline]
    pub(super) fn entry_after(self, entry: usize) -> usize {
        if entry + 1 == self.entries { 0 } else { entry + 1 }
    }

    /// The word that holds the offset where the chunk of this entry starts.
    #[inline]
    pub(super) fn start_at(self, entry: usize) -> usize {
        self.at + 2 * entry
    }

    /// The word that holds the time when the chunk of this entry was appended.
    #[inline]
    pub(super) fn time_at(self, entry: usize) -> usize {
        self.start_at(entry) + 1
    }

    /// The word that holds the offset where chunk `seq` starts.
    pub(super) fn start_of(self, seq: u64) -> usize {
        self.start_at(self.entry_of(seq))
    }

    /// The word that holds the time when chunk `seq` was appended.
    pub(super) fn time_of(self, seq: u64) -> usize {
        self.time_at(self.entry_of(seq))
    }
}
