//! Deterministic simulation of remote mounts: chains of daemons in memory, over links that are
//! slow, stall and break, with daemons that restart and streams that end, at times that a seed
//! decides.
//!
//! Each schedule has a runtime of its own with one thread, whose clock is paused: time passes only
//! when every task waits. [`network`] is everything between the daemons, [`ledger`] knows what was
//! written and what a reader may be told of it.
//!
//! What a seed does not decide: a link is told when the time of a chunk differs from that of the
//! chunk before, and this time is the system's, in steps of some milliseconds. And tokio wakes
//! tasks that wait for the same value of a `watch` channel in random order. So about one schedule
//! in twenty differs a little each time it runs; repeat it if it does not fail at once.
//!
//! A schedule that fails reports its seed. `PFS_SEED=123 cargo test -p pfs-remote --test simulation`
//! runs that schedule again and prints what happens. With `PFS_SCHEDULES=100000` as well, it runs
//! that many schedules, starting with that seed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not recognised by clippy

mod ledger;
mod network;
mod pipe;
mod races;
mod random;
mod reading;
mod schedule;
mod writing;

use std::{env, panic};

/// Number of schedules without `PFS_SCHEDULES`.
const SCHEDULES: u64 = 150;

/// The number in an environment variable.
fn variable(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn in_every_schedule_each_reader_is_told_what_was_written_and_what_is_lost() {
    let seed = variable("PFS_SEED");
    let count = variable("PFS_SCHEDULES");
    let is_replay = seed.is_some() && count.is_none();
    let first = seed.unwrap_or(0);
    for seed in first..first + count.unwrap_or(if is_replay { 1 } else { SCHEDULES }) {
        let done = panic::catch_unwind(|| schedule::run(seed, is_replay));
        assert!(done.is_ok(), "the schedule of PFS_SEED={seed} failed, for the reason above");
    }
}
