//! The heap: memory that was freed and that the C library keeps. It goes back to the system when
//! many connections have ended.
//!
//! glibc gives back the free end of a heap and free memory of allocations over a threshold, which
//! begins at 128 KiB and grows. A reader's buffer (65 KiB) is smaller, and small allocations that
//! live on lie behind it in the heap. 10,000 stalled readers over HTTP/1.1, HTTP/2 and the Unix
//! socket had 752 MiB, and all of it stayed after they had left. `malloc_trim` leaves 5 MiB. It
//! takes 0.11 s of processor time for that, and holds the lock of one heap at a time. Clients that
//! connect and disconnect one by one do not cause it; bursts of a thousand readers that leave every
//! 4 s cost the daemon 8 % more processor time.
//!
//! Settings of glibc do less: with a fixed threshold of 64 KiB, 10 % (Unix socket) to 30 %
//! (HTTP/1.1) stayed, and each buffer that is no spare one would be mapped and unmapped; with a
//! fixed threshold for the end of a heap, or with one heap, all stayed.
//!
//! # Safety
//!
//! `malloc_trim` may be called by any thread at any time. It takes no pointer, and gives back pages
//! that no allocation is in.

use std::sync::Arc;

use pfs_host::{Daemon, after_many_ended};
use tokio::task::spawn_blocking;

/// Gives free memory back whenever many connections have ended. Runs for as long as the daemon.
pub(crate) async fn give_back(daemon: Arc<Daemon>) {
    after_many_ended(daemon, async || {
        // It may wait for locks and goes through all heaps, which no task may do. It cannot panic.
        let _ = spawn_blocking(trim).await;
    })
    .await;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "only the C library knows its heap")]
fn trim() {
    let begun = std::time::Instant::now();
    // SAFETY: see the module's documentation.
    let given_back = unsafe { libc::malloc_trim(0) } == 1;
    let microseconds = begun.elapsed().as_micros();
    tracing::debug!(given_back, microseconds, "looked for free memory in the heap");
}

/// Other C libraries have nothing like it.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
