//! The daemon of pfs: hosts named in-memory byte streams on a Unix socket.
//!
//! [`start`](start()) is the whole program; [`run`] is the daemon alone, for programs and tests
//! that have a listener of their own. This crate has the listeners, the Unix socket as a transport,
//! the socket's file, the configuration file, the log, and the orderly shutdown. Streams,
//! permissions and sessions are in `pfs-host`, protocols over HTTP in `pfs-http`.
//!
//! No stream is ever written to disk. The one client here is `pfsd --reload`; of `pfs-client` only
//! the lookup is used, which tells where clients look for a daemon and whether one answers there
//! already.

pub mod args;
mod ask;
mod cgroup;
pub mod config;
mod descriptors;
mod heap;
mod http_listener;
mod logging;
mod reload;
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
