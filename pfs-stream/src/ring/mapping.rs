//! Memory mapping of a ring, usually of a memory file (memfd) that other processes can map. The
//! `memory` module explains why this is sound.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use rustix::{
    fs::{
        FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
        ftruncate, memfd_create,
    },
    io::Errno,
    mm::{
        Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mremap_fixed,
        munmap,
    },
};

use super::layout::WORD;

/// Access of other processes to the memory that this process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Read.
    ReadOnly,
    /// Read and write.
    Writable,
    /// Read and write, until the process that made the memory [forbids](Mapping::forbid_writing)
    /// further writable mappings.
    WritableAtFirst,
}

/// This process's view of a sealed memory file, or of memory that it does not share.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<AtomicU64>,
    words: usize,
    file: Mutex<Option<Arc<OwnedFd>>>,
    released: AtomicBool,
    /// Whether this is a boxed slice of words instead of a mapping.
    is_boxed: bool,
}

// SAFETY: the mapping is plain memory that belongs to no thread, and only atomics are handed out.
unsafe impl Send for Mapping {}
// SAFETY: the memory is plain, and only atomics are handed out.
unsafe impl Sync for Mapping {}

/// Pages are allocated in steps of this many bytes, because a call that is interrupted frees the
/// pages that it has allocated.
const ALLOCATE_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// Seals that keep the size of the file. Without them a mapping could lose its pages, and an access
/// would kill the process.
const FIXED_SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

impl Mapping {
    pub(crate) fn new(words: usize, sharing: Sharing) -> io::Result<Self> {
        let bytes = words.checked_mul(WORD).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = memfd_create("pfs-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        let mapping = Self::map(file, words, ProtFlags::READ | ProtFlags::WRITE)?;
        // Seal only now that our own writable mapping exists: from here on the file keeps its size,
        // and any process that gets or reopens the descriptor can map it for reading only.
        let seals = match sharing {
            Sharing::ReadOnly => FIXED_SIZE | SealFlags::SEAL | SealFlags::FUTURE_WRITE,
            Sharing::Writable => FIXED_SIZE | SealFlags::SEAL,
            Sharing::WritableAtFirst => FIXED_SIZE,
        };
        fcntl_add_seals(&mapping.file().ok_or(io::ErrorKind::Other)?, seals)?;
        Ok(mapping)
    }

    /// Memory of this process alone: no file, and the first access to a page costs less.
    pub(crate) fn own(words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(WORD).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a fresh address, so the mapping aliases no memory of ours.
        let address =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            address,
            words,
            file: Mutex::default(),
            released: AtomicBool::new(false),
            is_boxed: false,
        })
    }

    /// Memory of this process alone, from the heap. For memory smaller than a few pages, because a
    /// process can have only about 65,000 mappings.
    pub(crate) fn boxed(words: usize) -> Self {
        let address = NonNull::from(Box::leak(vec![0_u64; words].into_boxed_slice())).cast();
        Self {
            address,
            words,
            file: Mutex::default(),
            released: AtomicBool::new(false),
            is_boxed: true,
        }
    }

    /// Excludes the mapping from child processes of this process: two processes that append to one
    /// ring would corrupt it.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        let bytes = self.words * WORD;
        // SAFETY: the mapping is ours, and the call changes nothing about it in this process.
        Ok(unsafe { madvise(self.address.as_ptr().cast(), bytes, Advice::LinuxDontFork) }?)
    }

    /// Seals the file against further writable mappings: from now on a process that gets the file
    /// can map it for reading only. Existing writable mappings stay writable.
    pub(crate) fn forbid_writing(&self) -> io::Result<()> {
        let file = self.file().ok_or(io::ErrorKind::Other)?;
        Ok(fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::FUTURE_WRITE)?)
    }

    /// Maps memory that came from another process, if it has the expected size and is sealed to
    /// keep that size.
    pub(crate) fn open(file: OwnedFd, words: usize, sharing: Sharing) -> io::Result<Self> {
        let bytes = words.checked_mul(WORD).and_then(|bytes| i64::try_from(bytes).ok());
        let fixed = fcntl_get_seals(&file)?.contains(FIXED_SIZE);
        if !fixed || bytes != Some(fstat(&file)?.st_size) {
            let message =
                "the shared memory file does not have the expected size, or is not sealed";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let protection = match sharing {
            Sharing::ReadOnly => ProtFlags::READ,
            Sharing::Writable | Sharing::WritableAtFirst => ProtFlags::READ | ProtFlags::WRITE,
        };
        Self::map(file, words, protection)
    }

    fn map(file: OwnedFd, words: usize, protection: ProtFlags) -> io::Result<Self> {
        let address = std::ptr::null_mut();
        // SAFETY: the kernel chooses a fresh address, so the mapping aliases no memory of ours.
        let address =
            unsafe { mmap(address, words * WORD, protection, MapFlags::SHARED, &file, 0) }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = Mutex::new(Some(Arc::new(file)));
        Ok(Self { address, words, file, released: AtomicBool::new(false), is_boxed: false })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: see the documentation of the `memory` module, point 1.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }

    /// Whether the memory was given back to the system.
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Relaxed)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the system allocate the pages from byte `from` to byte `to` of the file now. Otherwise
    /// the system allocates a page on its first access, and kills the process if there is no memory
    /// left then.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let (mut at, to) = (from, to.min((self.words * WORD) as u64));
        while at < to {
            let bytes = (to - at).min(ALLOCATE_STEP_BYTES);
            match fallocate(&file, FallocateFlags::empty(), at, bytes) {
                Ok(()) => at += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether there is a file that can be handed out.
    pub(crate) fn has_file(&self) -> bool {
        self.opened().is_some()
    }

    /// The file to hand out, if there is one.
    pub(crate) fn file(&self) -> Option<Arc<OwnedFd>> {
        self.opened().clone()
    }

    /// Takes the file out. The mapping stays. The file is closed when its last owner drops it.
    pub(crate) fn take_file(&self) -> Option<Arc<OwnedFd>> {
        self.opened().take()
    }

    /// Gives the memory back to the system, except the first `kept` words: all other words are zero
    /// from now on. In the same step one of the kept words, `changed`, becomes `value`: a thread
    /// that finds a zero finds `value` afterwards. Other processes that map the file keep all of
    /// its contents. Words that are written during the call may be lost.
    pub(crate) fn release(&self, kept: usize, (changed, value): (usize, u64)) -> io::Result<()> {
        if self.is_boxed {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let bytes = self.words * WORD;
        let fresh = Self::own(self.words)?;
        for (to, from) in fresh.words().iter().zip(self.words()).take(kept) {
            to.store(from.load(Relaxed), Relaxed);
        }
        fresh.words()[changed].store(value, Relaxed);
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: both mappings are ours and have this size. The system puts the pages of the fresh
        // mapping in the place of the old pages in one step, so the words that were handed out stay
        // readable and writable all the time. Like any word of this memory, they may have any
        // value. After the call the fresh mapping no longer exists, and it is not unmapped again.
        let moved = unsafe {
            mremap_fixed(
                fresh.address.as_ptr().cast(),
                bytes,
                bytes,
                flags,
                self.address.as_ptr().cast(),
            )
        };
        if moved.is_ok() {
            std::mem::forget(fresh);
            drop(self.take_file());
            self.released.store(true, Relaxed);
        }
        Ok(moved.map(drop)?)
    }

    /// Writes two runs of bytes, each `(at, len)`, to a file, as many as the file takes at once.
    /// Another process that may write this memory can change the bytes meanwhile; the file then
    /// gets a mix of old and new bytes.
    pub(crate) fn write_to(
        &self,
        file: BorrowedFd<'_>,
        runs: [(usize, usize); 2],
    ) -> io::Result<usize> {
        let runs = self.vectors(runs);
        // SAFETY: both runs are inside the mapping, and there are two. The system only reads them,
        // as another process might. No Rust reference to the bytes exists.
        let written = unsafe { libc::writev(file.as_raw_fd(), runs.as_ptr(), 2) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    /// Reads from a file into two runs of bytes, each `(at, len)`, as many as the file gives at
    /// once. Another process that may read this memory can see some of the bytes before others.
    /// Fails in memory that is mapped read-only.
    pub(crate) fn read_from(
        &self,
        file: BorrowedFd<'_>,
        runs: [(usize, usize); 2],
    ) -> io::Result<usize> {
        let runs = self.vectors(runs);
        // SAFETY: both runs are inside the mapping, and there are two. The system writes them as
        // another process might, which atomics allow for. No Rust reference to the bytes exists.
        let read = unsafe { libc::readv(file.as_raw_fd(), runs.as_ptr(), 2) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Two runs of bytes, each `(at, len)`, as I/O vectors.
    fn vectors(&self, runs: [(usize, usize); 2]) -> [libc::iovec; 2] {
        let bytes = self.words * WORD;
        let base = self.address.as_ptr().cast::<u8>();
        runs.map(|(at, len)| {
            assert!(at.checked_add(len).is_some_and(|end| end <= bytes));
            libc::iovec { iov_base: base.wrapping_add(at).cast(), iov_len: len }
        })
    }

    /// The first half of a word as a futex. No other accessor may be used on that word.
    pub(crate) fn futex(&self, word: usize) -> &AtomicU32 {
        let word: *const AtomicU64 = &raw const self.words()[word];
        // SAFETY: the word is in range (indexed above), aligned for the larger type, and any bits
        // are valid.
        unsafe { &*word.cast::<AtomicU32>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_boxed {
            let words =
                std::ptr::slice_from_raw_parts_mut(self.address.as_ptr().cast::<u64>(), self.words);
            // SAFETY: this is the slice that `boxed` leaked, and no borrow of it is left.
            return drop(unsafe { Box::from_raw(words) });
        }
        // SAFETY: address and length are those of our mapping, and no borrow of it is left. The
        // call can fail only for arguments that are not those of a mapping.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.words * WORD) };
    }
}
