//! Waiting for a condition instead of for a guessed time.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Environment variable for the deadline in seconds, which full-size runs such as
/// `scripts/soak` set.
const VARIABLE: &str = "PFS_TEST_DEADLINE";

/// Pauses between two checks. The first ones are short, because most conditions become true
/// at once.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// Deadline after which a waiting test fails as hung. The deadline decides nothing else: a passing
/// test never waits that long, however busy the machine is.
pub fn deadline() -> Duration {
    static DEADLINE: LazyLock<Duration> =
        LazyLock::new(|| Duration::from_secs(variable(VARIABLE).unwrap_or(120)));
    *DEADLINE
}

/// Reads a number from an environment variable that a full-size run sets; `None` if the variable is
/// not set.
pub fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name} is {text:?}: {e}")))
}

/// Waits until `holds` returns true. Panics after [`deadline`] and names the condition, `what`.
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
