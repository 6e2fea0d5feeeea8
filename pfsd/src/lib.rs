//! The pfs daemon: hosts named in-memory byte streams on a Unix socket and over HTTP.
//!
//! [`start`](start()) is the whole program; [`run`] is the daemon alone, for programs and tests
//! with a listener of their own. This crate has the listeners, the Unix socket transport, the
//! socket file, the configuration file, the log, signals and graceful shutdown. Streams,
//! permissions and sessions are in `pfs-host`, protocols over HTTP in `pfs-http`.
//!
//! No stream is ever written to disk. The only client in this crate is `pfsd --reload`. Of
//! `pfs-client`, only the lookup is used: it lists the places where clients look for a daemon, and
//! tells whether one already answers there.

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
