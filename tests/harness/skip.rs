//! Skipping tests that this machine does not allow.

use std::{process::Command, thread};

/// Reports the current test as skipped, with the reason, through `scripts/skip`.
pub fn skip(why: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/skip");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let said = Command::new(script).args([&test, why]).status();
    assert!(
        said.is_ok_and(|status| status.success()),
        "{script} says that {test} is left out: {why}"
    );
}
