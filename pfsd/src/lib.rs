//! The daemon of pfs: hosts named in-memory byte streams on a Unix socket.
//!
//! [`start`](start()) is the whole program; [`run`] is the daemon alone, for programs and tests that have a listener
//! of their own. The streams themselves are `pfs-stream`'s and the bytes on the wire `pfs-proto`'s: here are the
//! connections between the two, the configuration, the socket's file, the log and the way to an orderly end.
//!
//! What it is not: there is no client here, and nothing is ever written to disk.

pub mod args;
pub mod config;
mod connection;
mod control;
mod daemon;
mod expiry;
mod failure;
mod gap_log;
mod http;
mod lender;
mod logging;
mod namespace;
mod reader_connection;
mod rights;
mod server;
#[cfg(target_os = "linux")]
mod sharing;
#[cfg(not(target_os = "linux"))]
#[path = "not_sharing.rs"]
mod sharing;
mod shutdown;
pub mod socket;
mod start;
mod systemd;
mod watcher_connection;
mod wire;
mod writer_connection;

pub use daemon::Daemon;
pub use server::run;
pub use start::start;
