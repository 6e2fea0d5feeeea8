//! Waiting for something to become true, never for a time that somebody guessed.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// What a run of the tests at full size says it may take in seconds; `scripts/soak` does.
const VARIABLE: &str = "PFS_TEST_DEADLINE";

/// Pauses between two looks: short at first, since most things come true at once.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// How long a test may wait for anything before it fails as one that hangs. It decides nothing
/// else: a test that passes never waits that long, however busy the machine is.
pub fn deadline() -> Duration {
    static DEADLINE: LazyLock<Duration> =
        LazyLock::new(|| Duration::from_secs(variable(VARIABLE).unwrap_or(120)));
    *DEADLINE
}

/// A number that an environment variable sets for a run at full size; `None` if it is not set.
pub fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name} is {text:?}: {e}")))
}

/// Waits until `holds` returns true; after [`deadline`] panics, naming `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    let mut pause = SHORTEST;
    while !holds() {
        assert!(begin.elapsed() < deadline(), "waited {:?} in vain until {what}", deadline());
        std::thread::sleep(pause);
        pause = (2 * pause).min(LONGEST);
    }
}
