//! Unsafe calls that the standard library has no safe version of: shared memory, and code between
//! fork and exec. All `unsafe` of this package is here.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
    time::Duration,
};

use pfs_measure::process;
use rustix::{
    mm::{MapFlags, ProtFlags},
    process::{Signal, set_parent_process_death_signal},
};

/// Atomic words that several processes share, initially zero. Mapped for the life of the process.
#[derive(Clone, Copy)]
pub struct Words {
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: all access is through atomics.
unsafe impl Send for Words {}
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first `len` words of a file of at least that size.
    pub fn map(file: &File, len: usize) -> io::Result<Self> {
        let bytes = len * size_of::<AtomicU64>();
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the shared file is too small",
            ));
        }
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; it is never unmapped.
        let address = unsafe {
            rustix::mm::mmap(ptr::null_mut(), bytes, flags, MapFlags::SHARED, file.as_fd(), 0)
        }?;
        let first = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, len })
    }

    /// Returns one of the words.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.len, "no word {at} among {}", self.len);
        // SAFETY: the word is within the mapping and aligned, and all bit patterns are valid for a
        // u64.
        unsafe { self.first.add(at).as_ref() }
    }
}

/// Returns the processor time of the calling process.
pub fn own_cpu_time() -> Duration {
    process::cpu_time(std::process::id()).unwrap_or_default()
}

/// Makes the command's process die with the thread that spawns it, even if that thread is killed.
pub fn die_together(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one system call and nothing else between fork and exec.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) }
}
