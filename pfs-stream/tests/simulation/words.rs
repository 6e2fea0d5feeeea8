//! The words of a ring, as mapped by the process of its holder.
#![allow(unsafe_code, reason = "no safe call creates a mapping")]

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const WORD: usize = 8;

/// A mapping of a file that may be written, now and later.
pub(crate) struct Words {
    address: *mut AtomicU64,
    count: usize,
}

impl Words {
    pub(crate) fn map(file: &impl AsFd) -> io::Result<Self> {
        let len = rustix::fs::fstat(file)?.st_size as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address of the mapping, and the file keeps its size.
        let address =
            unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        Ok(Self { address: address.cast(), count: len / WORD })
    }

    pub(crate) fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this length, and stays until this is dropped.
        unsafe { std::slice::from_raw_parts(self.address, self.count) }
    }

    pub(crate) fn load(&self, word: usize) -> u64 {
        self.all()[word].load(Relaxed)
    }

    pub(crate) fn store(&self, word: usize, value: u64) {
        self.all()[word].store(value, Relaxed);
    }

    /// The first half of a word, which is never accessed as a whole.
    pub(crate) fn half(&self, word: usize) -> &AtomicU32 {
        let word: *const AtomicU64 = &raw const self.all()[word];
        // SAFETY: in range, as indexed above, and aligned for the larger type.
        unsafe { &*word.cast::<AtomicU32>() }
    }

    /// Writes bytes from byte `at` after word `first` on.
    pub(crate) fn write(&self, first: usize, at: usize, bytes: &[u8]) {
        let (mut word, mut skip, mut rest) = (first + at / WORD, at % WORD, bytes);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(WORD - skip));
            let mut whole = self.load(word).to_ne_bytes();
            whole[skip..skip + part.len()].copy_from_slice(part);
            self.store(word, u64::from_ne_bytes(whole));
            (word, skip, rest) = (word + 1, 0, after);
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no borrow of it is left.
        unsafe { munmap(self.address.cast(), self.count * WORD) }.expect("the memory is a mapping");
    }
}
