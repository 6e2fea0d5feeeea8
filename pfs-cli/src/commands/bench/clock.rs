//! The clock that all processes of a measurement share.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.unsigned_abs())
}

/// Sleeps until then; not at all if that is past.
pub(super) fn sleep_until(then: u64) {
    let left = then.saturating_sub(now());
    if left > 0 {
        thread::sleep(Duration::from_nanos(left));
    }
}
