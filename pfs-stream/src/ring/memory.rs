//! The memory of a ring: words that are only ever touched through atomics.
//!
//! # Why the `unsafe` here is sound
//!
//! Two things need it, and nothing outside this module does.
//!
//! 1. [`Memory`] turns a mapping into `&[AtomicU64]`. The mapping is page-aligned, as long as it says,
//!    readable and writable, zero-filled by the kernel (zero is a valid `AtomicU64`), and is unmapped
//!    only when the `Memory` is dropped, which no borrow of the words outlives. The file behind it is
//!    sealed against shrinking, so no access can fault. Other processes may map the same pages; like
//!    threads, they can only race with atomic accesses, and what they read or write is never trusted to
//!    be in range.
//! 2. [`read`] appends to a `Vec` without filling the room with zeros first. It writes each byte of the
//!    room that it reserved before it sets the length.
//!
//! Every access is to a whole aligned word, also at the ends of a chunk: mixed-size atomics that race
//! are not defined in Rust's memory model, so a writer merges the edge words (there is one writer at a
//! time) and a reader cuts them.

use std::io;

use super::layout::WORD;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The words of a ring, zero at first.
#[derive(Debug)]
pub(crate) struct Memory {
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    mapping: mapping::Mapping,
    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    heap: Box<[AtomicU64]>,
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
impl Memory {
    pub(crate) fn new(words: usize) -> io::Result<Self> {
        Ok(Self { mapping: mapping::Mapping::new(words)? })
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
    for (to, from) in words[word..word + whole].iter().zip(body.as_chunks::<WORD>().0) {
        to.store(u64::from_ne_bytes(*from), Relaxed);
    }
    if !edge.is_empty() {
        merge(&words[word + whole], 0, edge);
    }
}

fn merge(word: &AtomicU64, skip: usize, edge: &[u8]) {
    let mut bytes = word.load(Relaxed).to_ne_bytes();
    bytes[skip..skip + edge.len()].copy_from_slice(edge);
    word.store(u64::from_ne_bytes(bytes), Relaxed);
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
    for (to, from) in room.as_chunks_mut::<WORD>().0.iter_mut().zip(body) {
        to.write_copy_of_slice(&from.load(Relaxed).to_ne_bytes());
    }
    // SAFETY: the loop above has just written the `whole * WORD` bytes after the old length.
    unsafe { out.set_len(out.len() + whole * WORD) };
    let edge = left % WORD;
    if edge != 0 {
        out.extend_from_slice(&words[word + whole].load(Relaxed).to_ne_bytes()[..edge]);
    }
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
#[allow(unsafe_code)]
mod mapping {
    use std::{io, ptr::NonNull, slice};

    use rustix::{
        fd::OwnedFd,
        fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
        mm::{MapFlags, ProtFlags, mmap, munmap},
    };

    use super::{AtomicU64, WORD};

    /// A sealed memory file and this process's writable view of it.
    #[derive(Debug)]
    pub(super) struct Mapping {
        address: NonNull<AtomicU64>,
        words: usize,
        /// What a reader in another process can be handed.
        pub(super) file: OwnedFd,
    }

    // SAFETY: the mapping is plain memory that belongs to no thread, and `words` hands out nothing
    // but atomics, which may be shared.
    unsafe impl Send for Mapping {}
    // SAFETY: as above.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(words: usize) -> io::Result<Self> {
            let bytes = words.checked_mul(WORD).ok_or(io::ErrorKind::OutOfMemory)?;
            let file = memfd_create("pfs-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
            ftruncate(&file, bytes as u64)?;
            // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
            let address = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    &file,
                    0,
                )
            }?;
            let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            let mapping = Self { address, words, file };
            // Only after our own writable mapping exists: from here on the file keeps its size, and
            // whoever gets or reopens the descriptor can map it for reading alone.
            let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
            fcntl_add_seals(&mapping.file, seals)?;
            Ok(mapping)
        }

        pub(super) fn words(&self) -> &[AtomicU64] {
            // SAFETY: see the module's documentation, point 1.
            unsafe { slice::from_raw_parts(self.address.as_ptr(), self.words) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: address and length are those of our mapping, and no borrow is left. It can only
            // fail for arguments that are not a mapping's.
            let _ = unsafe { munmap(self.address.as_ptr().cast(), self.words * WORD) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_what_was_written_and_touches_nothing_beside_it(
            at in 0usize..100, bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let memory = Memory::new(32).unwrap();
            let words = memory.words();
            write(words, 0, &[0xAA; 256]);
            write(words, at, &bytes);
            let mut all = b"before".to_vec();
            read(words, 0, 256, &mut all);
            let mut expected = b"before".to_vec();
            expected.extend([0xAA; 256]);
            expected[6 + at..6 + at + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(&all, &expected);
            let mut part = Vec::new();
            read(words, at, bytes.len(), &mut part);
            prop_assert_eq!(part, bytes);
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn a_ring_that_is_handed_out_can_be_neither_written_nor_resized() {
        use rustix::{fs, io::Errno, mm};
        use std::os::fd::AsRawFd;

        let memory = Memory::new(512).unwrap();
        let file = &memory.mapping.file;
        let reopened = std::fs::File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .unwrap();
        assert_eq!(rustix::io::pwrite(&reopened, b"x", 0), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&reopened, 0), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&reopened, 1 << 20), Err(Errno::PERM));
        assert_eq!(fs::fcntl_add_seals(&reopened, fs::SealFlags::WRITE), Err(Errno::PERM));
        let flags = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        #[allow(unsafe_code)]
        // SAFETY: a mapping at an address of the kernel's choice; it is refused anyway.
        let writable =
            unsafe { mm::mmap(std::ptr::null_mut(), 4096, flags, mm::MapFlags::SHARED, &reopened, 0) };
        assert_eq!(writable.unwrap_err(), Errno::PERM);
        memory.words()[0].store(7, Relaxed);
        let mut first = [0; 8];
        rustix::io::pread(&reopened, &mut first, 0).unwrap();
        assert_eq!(u64::from_ne_bytes(first), 7, "ours goes on, and the descriptor reads it");
    }
}
