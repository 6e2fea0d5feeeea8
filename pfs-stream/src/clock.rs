//! Clocks: wall-clock times in microseconds since the Unix epoch, as stored in the ring buffer, and
//! a monotonic clock.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Wall-clock time of an append, as of the last tick of the system's coarse clock: at most some
/// milliseconds ago. Reading the coarse clock costs a small part of reading the exact time, which
/// would be the slowest part of a small append. Compare these times only with each other.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) fn append_time() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1000)
}

#[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
pub(crate) fn append_time() -> u64 {
    micros(SystemTime::now())
}

/// Monotonic clock: microseconds since a moment before the first call, never 0. Setting the system
/// time does not affect this clock.
pub(crate) fn elapsed() -> u64 {
    #[cfg(all(test, not(loom)))]
    if let Some(stopped) = stopped::now() {
        return stopped;
    }
    static START: OnceLock<Instant> = OnceLock::new();
    duration_micros(START.get_or_init(Instant::now).elapsed()).saturating_add(1)
}

/// Converts a wall-clock time. Times before the epoch count as the epoch.
pub(crate) fn micros(time: SystemTime) -> u64 {
    duration_micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn duration_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

/// Paused clock for tests: stopped and advanced per thread.
#[cfg(all(test, not(loom)))]
pub(crate) mod stopped {
    use std::{cell::Cell, time::Duration};

    thread_local! {
        static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn now() -> Option<u64> {
        NOW.get()
    }

    /// Pauses [`elapsed`](super::elapsed) if it still runs, and advances it.
    pub(crate) fn advance(by: Duration) {
        NOW.set(Some(super::elapsed().saturating_add(super::duration_micros(by))));
    }
}
