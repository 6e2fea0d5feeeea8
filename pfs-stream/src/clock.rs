//! Wall-clock times as the ring stores them: microseconds since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> u64 {
    micros(SystemTime::now())
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
