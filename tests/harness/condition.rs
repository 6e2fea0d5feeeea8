//! Waiting for something to become true, never for a time that somebody guessed.

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails. Generous, since the machine may be busy
/// with all the other tests; a test that passes never waits that long.
pub const DEADLINE: Duration = Duration::from_secs(60);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Waits until `holds` returns true; after [`DEADLINE`] panics, naming `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(DEADLINE, what, holds);
}

/// As [`eventually`], with a deadline of its own.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
