//! Measurement tools shared by `pfs bench` and the comparison in `tests/bench`.
//!
//! - [`clock`]: the clock that all processes of a measurement share.
//! - [`latency`]: a histogram of latencies that processes exchange.
//! - [`process`]: processor time of a process.
//! - [`stamp`]: stamped chunks, and their validation.
//!
//! Not an interface for other programs: it changes with the two that use it.

pub mod clock;
pub mod latency;
pub mod process;
pub mod stamp;
