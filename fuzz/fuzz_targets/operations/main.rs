//! Any sequence of what the engine can be asked to do, one step after the other, checked against a
//! plain model.
//!
//! What happens between threads is not for here: loom and the engine's own tests see to that.

#![no_main]

mod model;
mod operation;
mod party;
mod world;

use libfuzzer_sys::{
    arbitrary::{Arbitrary, Unstructured},
    fuzz_target,
};
use operation::Operation;
use world::World;

fuzz_target!(|data: &[u8]| {
    // For a look at what an input means: `scripts/fuzz operations FILE` sets it.
    let print = std::env::var_os("PFS_FUZZ_PRINT").is_some();
    let mut bytes = Unstructured::new(data);
    let mut world = World::new();
    // Not as `Vec<Operation>`, which would toss a coin after each step whether to end there.
    while !bytes.is_empty() {
        let Ok(operation) = Operation::arbitrary(&mut bytes) else { break };
        if print {
            eprintln!("{operation:?}");
        }
        world.apply(operation);
        world.check();
    }
    world.end();
});
