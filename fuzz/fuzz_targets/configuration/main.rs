//! Fuzz target: any text as the daemon's configuration and as its token file. The text is refused
//! with the line that is wrong, or a daemon can start with it.

#![no_main]

#[path = "../allocations.rs"]
mod allocations;
mod config;
#[path = "../nameless.rs"]
mod nameless;
mod tokens;
mod toml;

use libfuzzer_sys::{arbitrary::Unstructured, fuzz_target};

// Ring buffers do not use this memory. The rest is for texts of a few KiB.
#[global_allocator]
static ALLOCATIONS: allocations::Bounded = allocations::Bounded::new(8 * 1024 * 1024);

// The first byte selects the kind of the rest, and is a digit in seeds.
fuzz_target!(|data: &[u8]| {
    let [kind, rest @ ..] = data else { return };
    // Prints the input; set by `scripts/fuzz configuration FILE`.
    let print = std::env::var_os("PFS_FUZZ_PRINT").is_some();
    let text = match kind % 4 {
        0 | 2 => String::from_utf8_lossy(rest).into_owned(),
        1 => toml::arbitrary(&mut Unstructured::new(rest)),
        _ => tokens::arbitrary(&mut Unstructured::new(rest)),
    };
    if print {
        eprintln!("{text}");
    }
    if kind % 4 < 2 {
        // Memory that the system lets the process use.
        let limit = [None, Some(u64::MAX), Some(64 * 1024 * 1024), Some(1024 * 1024)]
            [usize::from(kind / 4 % 4)];
        config::check(&text, limit);
    } else {
        tokens::check(&text);
    }
});
