//! Deterministic simulation of the engine: writers, readers of every kind and policy, growth,
//! pauses and deaths, in an order that a seed decides.
//!
//! The simulation has no threads and no time. Each schedule has its own scheduler, which runs one
//! step after the other, and polls sleepers when they were woken. After each step, [`ledger`] knows
//! exactly what each reader must be given next, what the ring must still hold, and who may sleep.
//! At the end, everything that was written is delivered or reported lost, and no memory is left in
//! use.
//!
//! Both ends of a reader in another process are simulated, in separate steps: a reader that asks
//! for the next ring of its stream maps that ring some steps later, or never. In some schedules the
//! system lacks descriptors.
//!
//! Both ends of a writer with a lease are simulated too: the daemon's end and the writer's process.
//! The process stops for a while or for ever after any step of an append, is told of the end of the
//! lease before or after that, and sends again what was not taken.
//!
//! A schedule that fails reports its seed. `PFS_SEED=123 cargo test -p pfs-stream --test
//! simulation` runs that schedule again and prints its steps. With `PFS_SCHEDULES=100000` as well,
//! it runs that many schedules, starting with that seed.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not recognised by clippy

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

/// Locked by each test, because a schedule may take away the descriptors of the whole process.
static PROCESS: Mutex<()> = Mutex::new(());

/// Number of schedules without `PFS_SCHEDULES`.
const SCHEDULES: u64 = if cfg!(miri) { 5 } else { 400 };

/// The number in an environment variable.
fn variable(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn in_every_schedule_everything_written_is_delivered_or_reported_lost() {
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
