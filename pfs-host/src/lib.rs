//! What a pfs daemon is apart from its sockets: streams in mounts, permissions, and the sessions of clients.
//!
//! [`Daemon`] holds the streams. [`serve`] takes one client from its hello to its end over any [`Transport`], which may
//! hand descriptors along; protocols of another kind, as those over HTTP, call the daemon themselves. [`expire`] removes
//! what has outlived its time.
//!
//! What it is not: it opens no socket, reads no configuration file and knows no HTTP. `pfsd` and `pfs-http` do.

mod client;
mod connection;
mod control;
mod daemon;
mod expiry;
mod failure;
mod lender;
mod namespace;
mod reader_connection;
mod rights;
mod session;
mod settings;
#[cfg(target_os = "linux")]
mod sharing;
#[cfg(not(target_os = "linux"))]
#[path = "not_sharing.rs"]
mod sharing;
mod shutdown;
mod transport;
mod watcher_connection;
mod wire;
mod writer_connection;

pub use client::Client;
pub use connection::serve;
pub use daemon::{Daemon, wide};
pub use expiry::run as expire;
pub use failure::Failure;
pub use namespace::{Namespace, Place};
pub use rights::{Grant, Rights};
pub use session::{Append, Attach, Broken, Encoder, Follow, Gap, Rejected};
pub use settings::{Mount, Settings};
pub use shutdown::{GRACE, Going, Trigger, channel};
pub use transport::Transport;
