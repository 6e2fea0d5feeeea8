//! A simulation of the engine: writers, readers of every kind and policy, growth, pauses and
//! deaths, in an order that a seed decides.
//!
//! There is no thread and no time in it. A schedule has a scheduler of its own, which does one step
//! after the other, and polls those who sleep when they were woken. After each step, [`ledger`]
//! knows exactly what each reader is to be given next, what the ring must still hold and who may
//! sleep; at the end, all that was written is delivered or reported lost, and no memory is left in
//! use.
//!
//! Readers in other processes have both ends here, and what they do is in steps: one that asks for
//! the ring that its stream has moved to maps it some steps later, or never. The system lacks
//! descriptors in some schedules.
//!
//! So has a writer that gets a lease: its daemon's end and its process, which stops for a while or
//! for ever after any step of an append, may be told of the end of the lease before or after that,
//! and sends again what was not taken.
//!
//! A schedule that fails tells its seed. `PFS_SEED=123 cargo test -p pfs-stream --test simulation`
//! runs that one again and prints its steps; with `PFS_SCHEDULES=100000` as well, so many from that
//! seed on.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know as such

mod following;
#[cfg(all(target_os = "linux", not(miri)))]
mod hand;
#[cfg(all(target_os = "linux", not(miri)))]
mod leasing;
mod ledger;
mod notice;
mod random;
mod rings;
mod schedule;
#[cfg(all(target_os = "linux", not(miri)))]
mod shm;
mod sink;
mod starving;
#[cfg(all(target_os = "linux", not(miri)))]
mod words;
mod writing;

use std::{
    env, panic,
    sync::{Mutex, PoisonError},
};

/// Held by each test: a schedule may take the descriptors of the whole process away.
static PROCESS: Mutex<()> = Mutex::new(());

/// Schedules that are run if nobody says how many.
const SCHEDULES: u64 = if cfg!(miri) { 5 } else { 400 };

/// A number that a variable of the environment has.
fn variable(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn whatever_is_done_in_whatever_order_delivered_and_reported_are_all_that_was_written() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = variable("PFS_SEED");
    let count = variable("PFS_SCHEDULES");
    let is_replay = seed.is_some() && count.is_none();
    let first = seed.unwrap_or(0);
    for seed in first..first + count.unwrap_or(if is_replay { 1 } else { SCHEDULES }) {
        let done = panic::catch_unwind(|| schedule::run(seed, is_replay));
        assert!(done.is_ok(), "the schedule of PFS_SEED={seed} failed, for the reason above");
    }
}
