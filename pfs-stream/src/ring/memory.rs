//! Memory of a ring: words that are accessed only through atomics.
//!
//! # Why the `unsafe` here is sound
//!
//! This module and the `mapping` module need `unsafe` for the two purposes below. A third purpose,
//! the copy itself, is in the `bulk` module.
//!
//! 1. `Mapping` turns a mapping, or a boxed slice of words, into `&[AtomicU64]`. The memory is
//!    aligned, has the stated length, and is readable. It is also writable, unless it was mapped
//!    read-only, in which case it is only loaded from. Any bit pattern is a valid `AtomicU64`. The
//!    memory is unmapped only when the `Mapping` is dropped, and no borrow of the words outlives
//!    the `Mapping`. `release` replaces the pages with other pages in one step. The file behind the
//!    mapping is sealed against shrinking, so no access can fault. Other processes may map the same
//!    pages. Like threads, they can only race with atomic accesses, and no value that they read or
//!    write is trusted to be in range. The address of a mapping is also passed to the system, to
//!    write from the mapping to a file or to read from a file into the mapping. The system then
//!    reads or writes as another process does, and no Rust reference to the bytes is made.
//! 2. [`read`] appends to a `Vec` without first filling the reserved room with zeros. It writes
//!    each byte of the room that it reserved before it sets the length.
//!
//! Every access from Rust is to a whole aligned word, also at the ends of a chunk: Rust's memory
//! model does not define mixed-size atomics that race. So a writer merges the words at the edges
//! (there is one writer at a time), and a reader cuts them.

use std::io;
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use super::mapping::{Mapping, Sharing};
use super::{bulk, layout::WORD};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The words of a ring, initially zero.
#[derive(Debug)]
pub(crate) struct Memory {
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    mapping: Mapping,
    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    heap: Box<[AtomicU64]>,
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
impl Memory {
    /// Memory that can be shared with other processes, for reading only.
    pub(crate) fn new(words: usize) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(words, Sharing::ReadOnly)? })
    }

    /// Memory that one other process may map for writing. After
    /// [`forbid_writing`](Self::forbid_writing), further processes can map it for reading only.
    pub(crate) fn writable_at_first(words: usize) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(words, Sharing::WritableAtFirst)? })
    }

    /// Excludes the mapping from child processes of this process.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.mapping.keep_from_children()
    }

    pub(crate) fn forbid_writing(&self) -> io::Result<()> {
        self.mapping.forbid_writing()
    }

    /// Memory of this process alone.
    pub(crate) fn own(words: usize) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::own(words)? })
    }

    /// Memory of this process alone, from the heap.
    pub(crate) fn boxed(words: usize) -> Self {
        Self { mapping: Mapping::boxed(words) }
    }

    /// Memory that can be shared with other processes for reading and writing, and the file to hand
    /// out. The file need not stay open here.
    pub(crate) fn writable_by_others(words: usize) -> io::Result<(Self, OwnedFd)> {
        let mapping = Mapping::new(words, Sharing::Writable)?;
        mapping.allocate(0, u64::MAX)?;
        let file = mapping.take_file().and_then(Arc::into_inner).ok_or(io::ErrorKind::Other)?;
        Ok((Self { mapping }, file))
    }

    /// Maps memory that another process made, for reading. Maps it for writing too, if this process
    /// may write it and `sharing` says so.
    pub(crate) fn open(file: OwnedFd, words: usize, sharing: Sharing) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::open(file, words, sharing)? })
    }

    /// Has the system allocate the pages from byte `from` to byte `to` now, if the memory can be
    /// shared with other processes.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.mapping.allocate(from, to)
    }

    /// Whether the memory can be shared with other processes.
    pub(crate) fn is_shared(&self) -> bool {
        self.mapping.has_file()
    }

    /// The file to hand out to other processes, if there is one.
    pub(crate) fn file(&self) -> Option<Arc<OwnedFd>> {
        self.mapping.file()
    }

    /// Closes the file, so that no further process can get it. Processes that map the file keep
    /// their mapping.
    pub(crate) fn close_file(&self) {
        drop(self.mapping.take_file());
    }

    /// Gives the memory back to the system, except the first `kept` words. Readers may still be
    /// using the memory, and find zeros. One of the kept words gets another value in the same step.
    pub(crate) fn release(&self, kept: usize, changed: (usize, u64)) -> io::Result<()> {
        self.mapping.release(kept, changed)
    }

    pub(crate) fn is_released(&self) -> bool {
        self.mapping.is_released()
    }

    /// Writes two runs of bytes, each `(at, len)`, to a file, as many as the file takes at once.
    /// The file gets whatever the bytes are at that moment.
    pub(crate) fn write_to(
        &self,
        file: BorrowedFd<'_>,
        runs: [(usize, usize); 2],
    ) -> io::Result<usize> {
        self.mapping.write_to(file, runs)
    }

    /// Reads from a file into two runs of bytes, each `(at, len)`, as many as the file gives at
    /// once. Readers may load the bytes meanwhile.
    pub(crate) fn read_from(
        &self,
        file: BorrowedFd<'_>,
        runs: [(usize, usize); 2],
    ) -> io::Result<usize> {
        self.mapping.read_from(file, runs)
    }

    /// A word as a futex. The other accessors must not be used on that word.
    pub(crate) fn futex(&self, word: usize) -> &std::sync::atomic::AtomicU32 {
        self.mapping.futex(word)
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }
}

#[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
impl Memory {
    pub(crate) fn new(words: usize) -> io::Result<Self> {
        Ok(Self { heap: (0..words).map(|_| AtomicU64::new(0)).collect() })
    }

    pub(crate) fn own(words: usize) -> io::Result<Self> {
        Self::new(words)
    }

    pub(crate) fn boxed(words: usize) -> Self {
        Self { heap: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn is_shared(&self) -> bool {
        false
    }

    pub(crate) fn allocate(&self, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }

    /// Always fails: the heap cannot give back memory that is in use.
    pub(crate) fn release(&self, _kept: usize, _changed: (usize, u64)) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn is_released(&self) -> bool {
        false
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.heap
    }
}

/// Copies `bytes` into `words`, beginning at byte `at`. There is one writer at a time.
pub(crate) fn write(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let (mut word, skip) = (at / WORD, at % WORD);
    let mut rest = bytes;
    if skip != 0 {
        let (edge, after) = rest.split_at(rest.len().min(WORD - skip));
        merge(&words[word], skip, edge);
        rest = after;
        word += 1;
    }
    let whole = rest.len() / WORD;
    let (body, edge) = rest.split_at(whole * WORD);
    bulk::write(body, &words[word..word + whole]);
    if !edge.is_empty() {
        merge(&words[word + whole], 0, edge);
    }
}

fn merge(word: &AtomicU64, skip: usize, edge: &[u8]) {
    let mut bytes = word.load(Relaxed).to_ne_bytes();
    bytes[skip..skip + edge.len()].copy_from_slice(edge);
    word.store(u64::from_ne_bytes(bytes), Relaxed);
}

/// Copies `len` bytes from byte `from_at` of `from` to byte `to_at` of `to`. The two memories do
/// not overlap. Both are shared: the copy gets whatever the bytes of `from` are at that moment, and
/// `to` has one writer at a time.
pub(crate) fn copy(
    from: &[AtomicU64],
    mut from_at: usize,
    to: &[AtomicU64],
    mut to_at: usize,
    len: usize,
) {
    let mut left = len;
    let skip = to_at % WORD;
    if skip != 0 {
        let edge = left.min(WORD - skip);
        merge(&to[to_at / WORD], skip, &gather(from, from_at, edge)[..edge]);
        (from_at, to_at, left) = (from_at + edge, to_at + edge, left - edge);
    }
    let whole = left / WORD;
    let body = &to[to_at / WORD..to_at / WORD + whole];
    if whole > 0 {
        bulk::copy(&from[from_at / WORD..], from_at % WORD, body);
    }
    let edge = left % WORD;
    if edge != 0 {
        let (from_at, to_at) = (from_at + whole * WORD, to_at + whole * WORD);
        merge(&to[to_at / WORD], 0, &gather(from, from_at, edge)[..edge]);
    }
}

/// Loads `len` bytes, at most a word, from any alignment.
fn gather(words: &[AtomicU64], at: usize, len: usize) -> [u8; WORD] {
    let (word, shift) = (at / WORD, 8 * (at % WORD));
    let low = u64::from_le(words[word].load(Relaxed)) >> shift;
    let spills = at % WORD + len > WORD;
    let high = if spills { u64::from_le(words[word + 1].load(Relaxed)) << (64 - shift) } else { 0 };
    (low | high).to_le_bytes()
}

/// Appends `len` bytes of `words` to `out`, beginning at byte `at`.
#[allow(unsafe_code)]
pub(crate) fn read(words: &[AtomicU64], at: usize, len: usize, out: &mut Vec<u8>) {
    out.reserve(len);
    let (mut word, skip) = (at / WORD, at % WORD);
    let mut left = len;
    if skip != 0 {
        let edge = left.min(WORD - skip);
        out.extend_from_slice(&words[word].load(Relaxed).to_ne_bytes()[skip..skip + edge]);
        left -= edge;
        word += 1;
    }
    let whole = left / WORD;
    let body = &words[word..word + whole];
    let room = &mut out.spare_capacity_mut()[..whole * WORD];
    bulk::read(body, room);
    // SAFETY: `bulk::read` has just written the `whole * WORD` bytes after the old length.
    unsafe { out.set_len(out.len() + whole * WORD) };
    let edge = left % WORD;
    if edge != 0 {
        out.extend_from_slice(&words[word + whole].load(Relaxed).to_ne_bytes()[..edge]);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_what_was_written_and_touches_nothing_beside_it(
            at in 0usize..100, bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let memory = Memory::new(64).unwrap();
            let words = memory.words();
            write(words, 0, &[0xAA; 512]);
            write(words, at, &bytes);
            let mut all = b"before".to_vec();
            read(words, 0, 512, &mut all);
            let mut expected = b"before".to_vec();
            expected.extend([0xAA; 512]);
            expected[6 + at..6 + at + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(&all, &expected);
            let mut part = Vec::new();
            read(words, at, bytes.len(), &mut part);
            prop_assert_eq!(part, bytes);
        }
    }

    proptest! {
        #[test]
        fn copies_between_memories_at_any_alignment_and_touches_nothing_beside_it(
            from_at in 0usize..30, to_at in 0usize..30, bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let (from, to) = (Memory::new(64).unwrap(), Memory::new(64).unwrap());
            write(from.words(), 0, &[0x55; 512]);
            write(from.words(), from_at, &bytes);
            write(to.words(), 0, &[0xAA; 512]);
            copy(from.words(), from_at, to.words(), to_at, bytes.len());
            let mut all = Vec::new();
            read(to.words(), 0, 512, &mut all);
            let mut expected = vec![0xAA; 512];
            expected[to_at..to_at + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(all, expected);
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn a_ring_that_is_handed_out_can_be_neither_written_nor_resized() {
        use rustix::{fs, io::Errno, mm};
        use std::os::fd::AsRawFd;

        let memory = Memory::new(512).unwrap();
        let file = memory.file().unwrap();
        let reopened = std::fs::File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .unwrap();
        assert_eq!(rustix::io::pwrite(&reopened, b"x", 0), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&reopened, 0), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&reopened, 1024 * 1024), Err(Errno::PERM));
        assert_eq!(fs::fcntl_add_seals(&reopened, fs::SealFlags::WRITE), Err(Errno::PERM));
        let flags = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        #[allow(unsafe_code)]
        // SAFETY: the kernel chooses the address of the mapping, and refuses it anyway.
        let writable = unsafe {
            mm::mmap(std::ptr::null_mut(), 4096, flags, mm::MapFlags::SHARED, &reopened, 0)
        };
        assert_eq!(writable.unwrap_err(), Errno::PERM);
        memory.words()[0].store(7, Relaxed);
        let mut first = [0; 8];
        rustix::io::pread(&reopened, &mut first, 0).unwrap();
        assert_eq!(
            u64::from_ne_bytes(first),
            7,
            "this mapping stays writable, and the descriptor reads from it"
        );
    }
}
