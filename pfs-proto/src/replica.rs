//! What a replica of a stream takes over from the stream: its origin and its writers; and the way to
//! the daemon that owns the stream.

use std::time::SystemTime;

use bytes::Bytes;

/// What a replica takes over from its stream, besides the identity and the contents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a replica needs all of it")]
pub struct Origin {
    /// When the stream was created.
    pub created: SystemTime,
    /// Size of the history that a new reader gets, in bytes.
    pub ring_buffer_size: u64,
    /// How far a live reader may lag, in bytes.
    pub channel_buffer_size: u64,
    /// The media type that names the format of the contents. Empty if no format is known.
    pub format: String,
    /// The oldest sync point in the ring, if one is known.
    pub first_sync: Option<u64>,
    /// The header in effect there. Empty if there is none, or if it is in the ring.
    pub header: Bytes,
}

/// The writers of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a replica needs all of it")]
pub struct Writers {
    /// Number of writers attached now.
    pub attached: u32,
    /// Whether a writer was ever attached.
    pub were_any: bool,
    /// Number of writers that have died.
    pub died: u64,
    /// Number of those that had died before the first of the writers that are attached now, or were
    /// attached last.
    pub died_before: u64,
    /// Number of writers that have finished.
    pub finished: u64,
}

/// Maximum number of mounts on the way to the daemon that owns a stream.
pub const MAX_HOPS: usize = 16;

/// A mount of another daemon's streams, on the way to the daemon that owns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by pfs's own daemons")]
pub struct Hop {
    /// A random number that tells apart the daemons that have such mounts.
    pub daemon: u64,
    /// The path and the URL of the mount, such as `/edge=http://host:4437/streamfs`, for messages.
    pub mount: String,
}
