//! Sharing memory with a daemon on the same machine.

mod lease;
mod mapped;
mod passing;
mod room;
mod sleep;
mod sleeper;
mod watch;

pub(crate) use lease::{Held, Lease};
pub(crate) use mapped::{BellCount, MappedSource};
pub(crate) use passing::{Passed, PassingSocket};
pub(crate) use watch::Watch;
