//! A writer's staging area, written as no client of ours would: through its descriptor, with any bytes.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

const WORD: u64 = 8;

/// The memory that came with `Staging`. Its form is that of `pfs-stream/src/staging.rs`.
pub struct StagingArea {
    file: File,
    produced: u64,
}

impl StagingArea {
    /// Where the records begin, in bytes.
    pub const RECORDS: u64 = 4096;
    /// How many bytes of records there are.
    pub const SIZE: u64 = 512 << 10;
    /// The largest chunk.
    pub const MAX_CHUNK: u64 = Self::SIZE / 4 - WORD;
    /// The word that counts what was produced.
    pub const PRODUCED: u64 = 0;
    /// The word that counts what was consumed.
    pub const CONSUMED: u64 = 16;

    /// From its descriptor.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: descriptor.into(), produced: 0 }
    }

    /// Its descriptor.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes anything anywhere.
    pub fn scribble(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("a writable area");
    }

    /// Writes a word of the header.
    pub fn set(&self, word: u64, value: u64) {
        self.scribble(word * WORD, &value.to_ne_bytes());
    }

    /// A word of the header.
    pub fn word(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, word * WORD).expect("a readable area");
        u64::from_ne_bytes(bytes)
    }

    /// Writes a record of `len` bytes of which only these are there yet, and does not say so.
    pub fn write(&self, len: u64, bytes: &[u8]) {
        let at = self.produced % Self::SIZE;
        self.scribble(Self::RECORDS + at, &len.to_ne_bytes());
        let at = (at + WORD) % Self::SIZE;
        let (first, rest) = bytes.split_at(bytes.len().min((Self::SIZE - at) as usize));
        self.scribble(Self::RECORDS + at, first);
        self.scribble(Self::RECORDS, rest);
    }

    /// Says that a record of `len` bytes is there.
    pub fn publish(&mut self, len: u64) {
        self.produced += WORD + len.next_multiple_of(WORD);
        self.set(Self::PRODUCED, self.produced);
    }

    /// Stages a chunk as it should be.
    pub fn stage(&mut self, chunk: &[u8]) {
        self.write(chunk.len() as u64, chunk);
        self.publish(chunk.len() as u64);
    }
}
