//! The daemon of pfs without its sockets: streams in mounts, permissions, and sessions.
//!
//! - [`Daemon`] holds the streams and their limits.
//! - A session is what a client does with one stream: [`Attach`], [`Follow`] or [`Append`]. It
//!   writes the log lines of joining, losing and leaving. Protocols poll it for the next bytes,
//!   which an [`Encoder`] makes.
//! - [`serve`] speaks the frames of `pfs-proto` with one client over any [`Transport`], which may
//!   pass descriptors. Protocols over HTTP use [`Daemon`] and the sessions directly.
//! - [`expire`] removes streams whose time to live is over.
//!
//! This crate opens no socket, reads no configuration file and knows no HTTP: see `pfsd` and
//! `pfs-http`.

mod client;
mod connection;
mod control;
mod daemon;
mod expiry;
mod failure;
mod lender;
mod namespace;
mod permissions;
mod pushed;
mod reader_connection;
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
pub use permissions::{Grant, Permissions};
pub use session::{Append, Attach, Broken, Encoder, Follow, Gap, Rejected};
pub use settings::{MountSettings, Settings};
pub use shutdown::{GRACE, Going, Trigger, channel};
pub use transport::Transport;
