//! The stats of a stream, its readers, its writers and the daemon.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::SlowPolicy;

/// Who is at the other end, as the kernel tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Process id, where known.
    pub pid: Option<u32>,
    /// User id, where known.
    pub uid: Option<u32>,
}

/// Whether a stream still takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "nobody may take a failed stream for a closed one")]
pub enum State {
    /// Takes appends.
    Open,
    /// Takes no more appends; its history can be read.
    Closed,
    /// Closed as failed: takes no more appends, and what it holds is not all that there should be.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Failed => "failed",
        })
    }
}

/// The stats of one stream at one moment. Sizes and offsets in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStat {
    /// Its path, mount included.
    pub path: String,
    /// Whether it takes appends.
    pub state: State,
    /// When it was created.
    pub created: SystemTime,
    /// When something was last appended.
    pub last_append: Option<SystemTime>,
    /// Who created it.
    pub owner: Peer,
    /// How much history a new reader gets.
    pub ring_buffer_size: u64,
    /// How far a live reader may lag.
    pub channel_buffer_size: u64,
    /// Bytes of data that the ring has room for now.
    pub capacity: u64,
    /// Memory that it takes: its rings (data, index and header), and about what is beside them.
    pub memory: u64,
    /// How often it moved to another ring, mostly a larger one.
    pub moves: u64,
    /// Offset after the newest byte.
    pub head: u64,
    /// Offset of the oldest chunk still readable.
    pub tail: u64,
    /// Chunks appended since the creation.
    pub chunks: u64,
    /// Chunks still readable.
    pub chunks_held: u64,
    /// Bytes a second appended, over the last seconds.
    pub rate: u64,
    /// Writers that have finished properly.
    pub writers_finished: u64,
    /// Writers that went away without finishing.
    pub writers_died: u64,
    /// Bytes that all readers together have been told they lost.
    pub lost_bytes: u64,
    /// Remove the stream when nothing was appended for this long.
    pub ttl: Option<Duration>,
    /// Media type of the contents.
    pub content_type: Option<String>,
    /// The writers attached now.
    pub writers: Vec<WriterStat>,
    /// The readers attached now.
    pub readers: Vec<ReaderStat>,
}

/// The stats of one attached writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterStat {
    /// Who it is.
    pub peer: Peer,
    /// When it attached.
    pub since: SystemTime,
    /// Bytes it has appended.
    pub bytes: u64,
    /// Whether it waits for a `block` reader to make room.
    pub waiting: bool,
    /// Whether it holds a lease: it appends to the ring by itself.
    pub leased: bool,
}

/// The stats of one attached reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderStat {
    /// Who it is.
    pub peer: Peer,
    /// When it attached.
    pub since: SystemTime,
    /// Where it started.
    pub start: u64,
    /// The next offset it will read.
    pub position: u64,
    /// Head minus position.
    pub lag: u64,
    /// What happens when it cannot keep up.
    pub policy: SlowPolicy,
    /// Bytes it was told it lost.
    pub lost_bytes: u64,
    /// Chunks it was told it lost.
    pub lost_chunks: u64,
    /// Whether a writer is waiting for this reader now.
    pub blocking: bool,
    /// Whether it was a `block` reader that kept a writer waiting for too long. Its policy is
    /// `drop` since.
    pub was_block: bool,
}

/// What a listing tells of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// Its path, mount included.
    pub path: String,
    /// Whether it takes appends.
    pub state: State,
    /// When it was created.
    pub created: SystemTime,
    /// When something was last appended.
    pub last_append: Option<SystemTime>,
    /// Offset after the newest byte.
    pub head: u64,
    /// Offset of the oldest chunk still readable.
    pub tail: u64,
    /// Writers attached now.
    pub writers: u32,
    /// Readers attached now.
    pub readers: u32,
}

/// What the daemon tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonInfo {
    /// Version of the program, as `pfsd --version` prints it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: SystemTime,
    /// The mounts it serves, such as `/streamfs`.
    pub mounts: Vec<String>,
    /// Streams it holds now.
    pub streams: u64,
    /// Streams it may hold.
    pub max_streams: u64,
    /// Bytes of memory that all rings take now.
    pub memory: u64,
    /// Bytes of memory that all rings may take.
    pub max_memory: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections that may be open.
    pub max_connections: u64,
}
