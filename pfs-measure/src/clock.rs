//! Monotonic clock that all processes of a measurement share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const SECOND: u64 = 1_000_000_000;

/// Returns the time of `CLOCK_MONOTONIC` in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs().saturating_mul(SECOND).saturating_add(time.tv_nsec.unsigned_abs())
}

/// Sleeps until `then`; returns at once if that time is past.
#[cfg(target_os = "linux")]
pub fn sleep_until(then: u64) {
    use rustix::{
        thread::{ClockId, clock_nanosleep_absolute},
        time::Timespec,
    };

    let time =
        Timespec { tv_sec: (then / SECOND).cast_signed(), tv_nsec: (then % SECOND).cast_signed() };
    while clock_nanosleep_absolute(ClockId::Monotonic, &time) == Err(rustix::io::Errno::INTR) {}
}

/// Sleeps until `then`; returns at once if that time is past.
#[cfg(not(target_os = "linux"))]
pub fn sleep_until(then: u64) {
    std::thread::sleep(Duration::from_nanos(then.saturating_sub(now())));
}

/// Returns the time that is `time` from now.
pub fn after(time: Duration) -> u64 {
    now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
