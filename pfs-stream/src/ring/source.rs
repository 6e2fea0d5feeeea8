//! Source of the bytes of a chunk.

use bytes::Bytes;

use super::memory;
use crate::{Chunk, sync::AtomicU64};

/// A chunk to append.
pub(crate) trait Source {
    /// The number of bytes.
    fn size(&self) -> usize;

    /// Writes `len` of the bytes, from `skip` on, to byte `at` of `words`.
    fn write(&self, skip: usize, len: usize, words: &[AtomicU64], at: usize);
}

/// A chunk in this process. Its bytes are asked for once, because an implementation of [`AsRef`]
/// may answer differently each time.
///
/// Not generic, so that appending is compiled once, in this crate: an append that was compiled in a
/// program's crate took a fifth longer.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    chunk: &'a dyn Chunk,
    bytes: &'a [u8],
}

impl<'a> Given<'a> {
    #[inline(always)]
    pub(crate) fn new(chunk: &'a impl Chunk) -> Self {
        Self { chunk, bytes: chunk.as_ref() }
    }

    /// The bytes as a reference that a ring of one process can hold, or a copy of them.
    #[inline(always)]
    pub(crate) fn to_bytes(self) -> Bytes {
        let shared = self.chunk.shared().filter(|shared| shared.len() == self.bytes.len());
        shared.unwrap_or_else(|| Bytes::copy_from_slice(self.bytes))
    }
}

impl Source for Given<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        self.bytes.len()
    }

    #[inline(always)]
    fn write(&self, skip: usize, len: usize, words: &[AtomicU64], at: usize) {
        memory::write(words, at, &self.bytes[skip..skip + len]);
    }
}

/// A chunk in memory that another process may be writing at the same moment. That process can
/// corrupt these bytes and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'a> {
    /// The memory. A chunk may wrap around at its end.
    pub(crate) words: &'a [AtomicU64],
    /// The byte in the memory where the chunk begins.
    pub(crate) at: usize,
    /// The length of the chunk, at most the size of the memory.
    pub(crate) len: usize,
}

impl Source for Shared<'_> {
    fn size(&self) -> usize {
        self.len
    }

    fn write(&self, skip: usize, len: usize, words: &[AtomicU64], at: usize) {
        if self.at + skip + len <= self.words.len() * size_of::<u64>() {
            return memory::copy(self.words, self.at + skip, words, at, len);
        }
        let size = self.words.len() * size_of::<u64>();
        let from = (self.at + skip) % size;
        let first = len.min(size - from);
        memory::copy(self.words, from, words, at, first);
        memory::copy(self.words, 0, words, at + first, len - first);
    }
}
