//! The daemon of pfs: hosts named in-memory byte streams on a Unix socket.
//!
//! [`start`](start()) is the whole program; [`run`] is the daemon alone, for programs and tests that
//! have a listener of their own. This crate has the listeners, the Unix socket as a transport, the
//! socket's file, the configuration file, the log, and the orderly shutdown. Streams, permissions and
//! sessions are in `pfs-host`, protocols over HTTP in `pfs-http`.
//!
//! There is no client here, and no stream is ever written to disk.

pub mod args;
mod cgroup;
pub mod config;
mod descriptors;
mod http_listener;
mod logging;
mod server;
mod signals;
pub mod socket;
mod spare;
mod start;
mod stdout;
mod systemd;
mod unix;

pub use pfs_host::Daemon;
pub use server::run;
pub use start::start;
