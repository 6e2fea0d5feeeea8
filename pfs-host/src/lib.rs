//! Daemon without sockets: streams in mounts, permissions, sessions, refusals and
//! graceful shutdown.
//!
//! - [`Daemon`] holds the streams and their limits.
//! - [`Mount`](mount::Mount) is a tree of streams. The only implementation keeps streams in memory.
//! - [`Readable`] and [`Writable`] are a path whose permission was checked. Every session begins
//!   with one of them, so no protocol can skip the check.
//! - An [`Owner`] is a user or a token. Streams are charged to the quota of the owner that
//!   created them.
//! - A session is the work of one client on one stream: [`Follow`], [`Page`], [`Append`],
//!   [`append_batch`](Writable::append_batch), [`put`](Writable::put), [`Watch`]. The session
//!   writes the log lines for joining, losing data and leaving. A protocol polls the session for
//!   the next bytes, which an [`Encoder`] makes.
//! - [`serve`] speaks the frames of `pfs-proto` with one client over any [`Transport`], which may
//!   pass descriptors. The other protocols over HTTP use [`Daemon`] and the sessions directly.
//! - [`Refusals`](refusals::Refusals) counts and logs refusals, whatever the protocol.
//! - [`after_many_ended`] calls a function when the memory of many connections has become free.
//! - The media index of a stream finds where a reader that joins late can start: see `media`.
//! - [`expire`] removes streams whose time to live is over.
//! - [`exit_when_idle`] ends a daemon that has been idle for a while.
//!
//! This crate opens no socket, reads no configuration file and knows no HTTP: see `pfsd`
//! and `pfs-http`.

mod buffers;
mod caller;
mod connection;
mod connections;
mod control;
mod cutoff;
mod daemon;
mod expiry;
mod failure;
mod forward;
mod idle;
mod listing;
mod media;
pub mod mount;
mod namespace;
mod operator;
mod owner;
mod permissions;
mod poll;
mod published;
mod quotas;
mod readable;
mod reader_connection;
pub mod refusals;
mod reload;
mod replica;
mod session;
mod settings;
#[cfg(target_os = "linux")]
mod shm;
#[cfg(not(target_os = "linux"))]
#[path = "no_shm.rs"]
mod shm;
mod shutdown;
mod stream_at;
mod transport;
mod watcher_connection;
mod wire;
mod writable;
mod writer_connection;

pub use caller::Caller;
pub use connection::serve;
pub use connections::{Admitted, after_many_ended};
pub use cutoff::Cutoff;
pub use daemon::{Daemon, wide};
pub use expiry::run as expire;
pub use failure::Failure;
pub use idle::exit_when_idle;
pub use listing::Listing;
pub use media::Joined;
pub use namespace::{Namespace, Place};
pub use owner::{Owner, TokenId};
pub use permissions::{Grant, Grants, Permissions};
pub use readable::Readable;
pub use reload::ReloadRequest;
pub use replica::Replica;
pub use session::{
    Append, Batch, Broken, Checked, Edge, Encoder, Follow, Gap, NotAppended, Page, PageError,
    Piece, Put, Rejected, Upload, Watch,
};
pub use settings::{MountSettings, Settings};
pub use shutdown::DRAIN_TIMEOUT;
pub use stream_at::StreamAt;
pub use transport::Transport;
pub use writable::Writable;
