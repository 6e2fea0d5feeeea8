//! Shared memory with a daemon on the same machine: reading ring buffers, and leases.

mod lease;
mod passing;
mod room;
mod sleep;
mod sleeper;
mod source;
mod watch;

pub(crate) use lease::{Held, Lease};
pub(crate) use passing::{Passed, PassingSocket};
pub(crate) use source::{NotifyCount, ShmSource};
pub(crate) use watch::Watch;
