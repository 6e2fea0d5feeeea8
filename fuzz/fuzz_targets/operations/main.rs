//! Fuzz target: any sequence of engine operations, one after the other, checked against a plain
//! model.
//!
//! Interleavings of threads are out of scope: loom and the engine's own tests cover them.

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
    // Prints the input; set by `scripts/fuzz operations FILE`.
    let print = std::env::var_os("PFS_FUZZ_PRINT").is_some();
    let mut bytes = Unstructured::new(data);
    let mut world = World::new();
    // The input is no `Vec<Operation>`: such a list would end at random after any step.
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
