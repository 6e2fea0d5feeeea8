//! Memory of idle connections.
//!
//! # Safety
//!
//! The allocator delegates every call to the system's allocator, and only counts bytes, for each
//! thread apart, because other tests run at the same time.
#![allow(unsafe_code, reason = "only an allocator sees every allocation")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{S, Served, WIDE, pipe::Near};

/// More than an idle connection takes, and much less than the buffers of hyper (16 KiB).
const MAX_IDLE_BYTES: isize = 10 * 1024;

/// Number of connections that are measured. As many are opened before, so that tables have grown.
const CONNECTIONS: usize = 64;

thread_local! {
    /// Number of bytes that this thread has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize, sign: isize) {
    // The thread-local counter no longer exists while a thread ends.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + sign * isize::try_from(bytes).unwrap_or(isize::MAX))
    });
}

// SAFETY: see the module's documentation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps this method's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Readers that have received all bytes so far. They do not use [`Client`](super::Client), which
/// has buffers of its own.
async fn idle_readers(served: &Served) -> Vec<Near> {
    let mut readers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut reader = served.connect_raw(WIDE);
        let request = format!(
            "GET {S} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n",
            super::address()
        );
        reader.write_all(request.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        while !told.ends_with(b"data: history\n\n\r\n") {
            assert!(reader.read_buf(&mut told).await.unwrap() > 0);
        }
        readers.push(reader);
    }
    readers
}

#[tokio::test(start_paused = true)]
async fn an_idle_reader_of_events_holds_no_buffer_of_hyper() {
    let served = Served::new();
    let stream = served.create(4096);
    stream.writer().unwrap().try_append(b"history").unwrap();
    let before = idle_readers(&served).await;
    let live = LIVE.get();
    let readers = idle_readers(&served).await;
    let each = (LIVE.get() - live) / CONNECTIONS.cast_signed();
    assert_eq!(stream.readers(), before.len() + readers.len());
    assert!(each < MAX_IDLE_BYTES, "an idle reader holds {each} bytes");
}
