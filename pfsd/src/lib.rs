//! The daemon of pfs: hosts named in-memory byte streams on a Unix socket.
//!
//! [`start`](start()) is the whole program; [`run`] is the daemon alone, for programs and tests that have a listener
//! of their own. The streams themselves are `pfs-stream`'s and the bytes on the wire `pfs-proto`'s: here are the
//! connections between the two, the configuration, the socket's file, the log and the way to an orderly end.
//!
//! What it is not: there is no client here, and nothing is ever written to disk.

pub mod args;
pub mod config;
mod http_listener;
mod logging;
mod server;
mod signals;
pub mod socket;
mod start;
mod systemd;
mod unix;

pub use pfs_host::Daemon;
pub use server::run;
pub use start::start;
