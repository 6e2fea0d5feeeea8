//! Fuzz target: any bytes as HTTP requests to a daemon in memory. Every response is documented in
//! the API's description, and when the clients have gone, the daemon keeps nothing for them.
//!
//! The clock is paused and advances only to pending timers, so a run takes no time, however long
//! its clients are silent.

#![no_main]

#[path = "../allocations.rs"]
mod allocations;
mod answer;
mod frames;
mod http1;
mod http2;
#[path = "../nameless.rs"]
mod nameless;
#[path = "../../../pfs-http/tests/connections/pipe.rs"]
mod pipe;
mod request;
mod run;
mod tokens;
mod world;

use libfuzzer_sys::fuzz_target;
use world::address;

#[global_allocator]
static ALLOCATIONS: allocations::Bounded = allocations::Bounded::new(64 * 1024 * 1024);

fuzz_target!(|data: &[u8]| {
    let [setting, cut, rest @ ..] = data else { return };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run::run(run::Setting::from_byte(*setting), *cut, rest));
});
