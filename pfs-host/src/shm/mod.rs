//! Shared memory with local clients: leases of writers, and shm readers.

mod lease;
mod reader;

pub(crate) use lease::Lease;
pub(crate) use pfs_stream::lease::Grant;
pub(crate) use reader::{hand_out, serve};
