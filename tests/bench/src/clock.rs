//! The clock that all processes share.

use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds on CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Sleeps until then; not at all if it is past.
pub fn sleep_until(then: u64) {
    let time = Timespec { tv_sec: (then / SECOND).cast_signed(), tv_nsec: (then % SECOND).cast_signed() };
    while clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &time) == Err(rustix::io::Errno::INTR)
    {
    }
}

/// The moment so long from now.
pub fn after(time: Duration) -> u64 {
    now() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
