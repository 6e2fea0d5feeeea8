//! Random kills: a writer, readers of every kind, a daemon and a proxy between them. At a random
//! moment, one or two of them die, break, stall or get a signal. Every output is then still a
//! prefix with exact gaps, and no exit code claims more than was delivered.
//!
//! A round is a [`Plan`](plan::Plan) made from a seed. `PFS_TEST_SEED` repeats the round that a
//! failure names; processes and threads race, so the failure may need several runs.
//! `PFS_TEST_SECONDS` makes a run longer. [`model`] alone says what is allowed.

#![allow(clippy::print_stderr, reason = "a failure names its round")]

mod model;
mod plan;
mod reader;
mod round;
mod writer;

use std::time::{Duration, Instant};

use harness::{Random, Transport, variable};

use self::plan::Plan;

const S: &str = "/streamfs/s";

/// Minimum number of rounds.
const ROUNDS: u32 = 12;

harness::per_transport! {
    whatever_is_killed_every_output_is_a_prefix_with_exact_gaps_and_the_exit_code_says_so,
}

fn whatever_is_killed_every_output_is_a_prefix_with_exact_gaps_and_the_exit_code_says_so(
    transport: Transport,
) {
    let time = Duration::from_secs(variable("PFS_TEST_SECONDS").unwrap_or(0));
    let begin = Instant::now();
    let fixed = variable("PFS_TEST_SEED");
    let mut seeds = Random::from_the_system();
    let mut rounds = 0;
    while rounds < ROUNDS || begin.elapsed() < time {
        let seed = fixed.unwrap_or_else(|| seeds.number());
        let plan = Plan::new(transport, seed);
        let _named = Named { seed, rounds, plan: &plan };
        round::run(&plan, seed);
        rounds += 1;
    }
    eprintln!("{rounds} rounds over {transport:?}");
}

/// Prints the seed of the round when the round fails.
struct Named<'a> {
    seed: u64,
    rounds: u32,
    plan: &'a Plan,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, rounds, plan } = self;
            eprintln!("after {rounds} rounds, PFS_TEST_SEED={seed} failed: {plan:?}");
        }
    }
}
