//! Allocator with a limit: aborts the process when far more memory is allocated than any input
//! needs, because nothing may allocate without bound. Ring buffers do not use this allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

#[derive(Debug)]
pub struct Bounded {
    most: usize,
    used: AtomicUsize,
}

impl Bounded {
    /// Allows `most` bytes in use at a time. The memory of libFuzzer is not counted.
    pub const fn new(most: usize) -> Self {
        Self { most, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        // A panic resolves function names for its backtrace, which takes an unpredictable amount of
        // memory.
        if used > self.most && !thread::panicking() {
            // The message needs some memory, too.
            self.used.store(0, Relaxed);
            eprintln!(
                "{bytes} more bytes would need {used} bytes of memory; the limit is {}",
                self.most
            );
            process::abort();
        }
    }
}

// SAFETY: every method delegates to the system's allocator.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        self.used.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}
