//! What measurements of pfs have in common: `pfs bench`, and the comparison in `tests/bench`.
//!
//! - [`clock`]: the clock that all processes of a measurement share.
//! - [`latency`]: a histogram of latencies, which processes tell each other.
//! - [`process`]: processor time of a process.
//! - [`stamp`]: stamped chunks, and the check of them.
//!
//! No interface for others: it changes with the two programs that use it.

pub mod clock;
pub mod latency;
pub mod process;
pub mod stamp;
