//! An allocator that ends the process when much more memory is taken than any input is worth:
//! nothing may allocate without bound. Rings are not of this allocator.

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
    /// Lets `most` bytes be taken at a time, libFuzzer's own memory not counted.
    pub const fn new(most: usize) -> Self {
        Self { most, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        // Who panics looks for the names of functions, which takes as much as it takes.
        if used > self.most && !thread::panicking() {
            // The message takes some memory, too.
            self.used.store(0, Relaxed);
            eprintln!(
                "{bytes} bytes more would be {used} bytes of memory, and {} are enough",
                self.most
            );
            process::abort();
        }
    }
}

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        self.used.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
