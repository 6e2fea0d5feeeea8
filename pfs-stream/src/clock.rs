//! Wall-clock times as the ring stores them: microseconds since the Unix epoch.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) fn now() -> u64 {
    micros(SystemTime::now())
}

/// Microseconds since some moment before the first call, never 0; nobody can set this clock.
pub(crate) fn elapsed() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    duration_micros(START.get_or_init(Instant::now).elapsed()).saturating_add(1)
}

/// Times before the epoch count as the epoch.
pub(crate) fn micros(time: SystemTime) -> u64 {
    duration_micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn duration_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}
