//! Heap trimming: returns freed memory, which the C library keeps, to the system after many
//! connections have ended.
//!
//! glibc returns only the free end of a heap, and free memory of allocations over a threshold,
//! which starts at 128 KiB and grows. A reader's buffer (65 KiB) is below the threshold, and
//! longer-lived small allocations lie behind it in the heap. With 10,000 stalled readers over
//! HTTP/1.1, HTTP/2 and the Unix socket, the daemon took 752 MiB, and kept all of it after they had
//! left. `malloc_trim` leaves 5 MiB. It takes 0.11 s of processor time for that, and holds the lock
//! of one heap at a time. Clients that connect and disconnect one by one do not trigger a trim;
//! bursts of a thousand readers that leave every 4 s cost the daemon 8 % more processor time.
//!
//! Settings of glibc achieve less. With a fixed threshold of 64 KiB, 10 % (Unix socket) to 30 %
//! (HTTP/1.1) of the memory stayed, and each buffer outside the buffer pool would be mapped and
//! unmapped. With a fixed threshold for the end of a heap, or with a single heap, all of it stayed.
//!
//! # Safety
//!
//! Any thread may call `malloc_trim` at any time. It takes no pointer, and returns only pages
//! without an allocation.

use std::sync::Arc;

use pfs_host::{Daemon, after_many_ended};
use tokio::task::spawn_blocking;

/// Trims the heap whenever many connections have ended. Runs for as long as the daemon.
pub(crate) async fn give_back(daemon: Arc<Daemon>) {
    after_many_ended(daemon, async || {
        // `trim` walks all heaps and may wait for locks, so it must not run in a task. It
        // cannot panic.
        let _ = spawn_blocking(trim).await;
    })
    .await;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "only the C library can trim its heap")]
fn trim() {
    let begun = std::time::Instant::now();
    // SAFETY: see the module's documentation.
    let given_back = unsafe { libc::malloc_trim(0) } == 1;
    let microseconds = begun.elapsed().as_micros();
    tracing::debug!(given_back, microseconds, "trimmed the heap");
}

/// Other C libraries have no equivalent.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
