//! What measurements of pfs have in common: `pfs bench`, and the comparison in `tests/bench`.
//!
//! - [`clock`]: the clock that all processes of a measurement share.
//! - [`stamp`]: stamped chunks, and the check of them.
//!
//! No interface for others: it changes with the two programs that use it.

pub mod clock;
pub mod stamp;
