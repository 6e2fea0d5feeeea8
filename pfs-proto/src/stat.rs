//! Stats of a stream, its readers, its writers and the daemon.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::SlowPolicy;

/// Peer credentials: the process at the other end, as the kernel reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Process id, if known.
    pub pid: Option<u32>,
    /// User id, if known.
    pub uid: Option<u32>,
}

/// State of a stream: whether it accepts appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a failed stream must not be mistaken for a closed stream"
)]
pub enum State {
    /// Accepts appends.
    Open,
    /// Accepts no more appends; the history can still be read.
    Closed,
    /// Closed as failed: accepts no more appends, and the data is incomplete.
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

/// Stats of one stream at one moment. Sizes and offsets are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStat {
    /// Path of the stream, mount included.
    pub path: String,
    /// Whether the stream accepts appends.
    pub state: State,
    /// Time of the creation.
    pub created: SystemTime,
    /// Time of the last append.
    pub last_append: Option<SystemTime>,
    /// The process that created the stream.
    pub owner: Peer,
    /// Bytes of history that a new reader gets.
    pub ring_buffer_size: u64,
    /// Bytes that a live reader may lag.
    pub channel_buffer_size: u64,
    /// Bytes of data that the current ring can hold.
    pub capacity: u64,
    /// Memory of the stream: its rings (data, index and header), and an estimate of the rest.
    pub memory: u64,
    /// How often the stream moved to another ring, usually a larger one.
    pub moves: u64,
    /// Offset after the newest byte.
    pub head: u64,
    /// Offset of the oldest readable chunk.
    pub tail: u64,
    /// Chunks appended since the creation.
    pub chunks: u64,
    /// Chunks that are still readable.
    pub chunks_held: u64,
    /// Append rate in bytes per second, over the last seconds.
    pub rate: u64,
    /// Writers that have finished properly.
    pub writers_finished: u64,
    /// Writers that left without finishing.
    pub writers_died: u64,
    /// Total of lost bytes that all readers were told about.
    pub lost_bytes: u64,
    /// Time to live: the stream is removed when nothing has been appended for this long.
    pub ttl: Option<Duration>,
    /// Media type of the contents.
    pub content_type: Option<String>,
    /// Stats of the media. `None` if the stream is in no known media format.
    pub media: Option<Box<MediaStat>>,
    /// The mounts on the way to the daemon that owns the stream, from the asked daemon on. Empty if
    /// that daemon owns the stream. All other stats are the owner's.
    pub hops: Vec<HopStat>,
    /// Writers attached now.
    pub writers: Vec<WriterStat>,
    /// Readers attached now.
    pub readers: Vec<ReaderStat>,
}

/// Stats of the media in a stream: the header and the sync points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaStat {
    /// Name of the format, such as `MPEG-TS`.
    pub format: String,
    /// Size of the header in effect: the bytes that a decoder needs before anything else.
    pub header_bytes: u64,
    /// Offset of the last sync point, where a decoder can start.
    pub last_sync: Option<u64>,
    /// Bytes from the second to last sync point to the last: for video, a group of pictures (GOP).
    pub gop_bytes: Option<u64>,
    /// Time from the append of the second to last sync point to that of the last.
    pub gop: Option<Duration>,
}

/// Stats of a mount of another daemon's streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopStat {
    /// Path of the mount, such as `/edge`.
    pub mount: String,
    /// The mounted URL, such as `http://camera:4437/streamfs`, or several: the first that answers
    /// is used.
    pub owner: String,
    /// Time from a small request to its answer, measured less than a second ago. `None` if there was
    /// no answer.
    pub round_trip: Option<Duration>,
    /// Why there was no answer.
    pub failure: Option<String>,
    /// How often links of the mount were lost and restored since this daemon started.
    pub reconnects: u64,
    /// Bytes that links of the mount did not get in time, since this daemon started.
    pub lost_bytes: u64,
    /// The link of the stream that the stats are about. `None` if this daemon does not follow the
    /// stream now.
    pub link: Option<LinkStat>,
}

/// Stats of a link, which follows one stream of another daemon. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStat {
    /// Whether the link is connected. If not, it tries to connect again.
    pub connected: bool,
    /// When the link was last connected, or lost.
    pub since: SystemTime,
    /// How the link is treated at the owner if it cannot keep up: `block` while it has a local
    /// `block` reader.
    pub policy: SlowPolicy,
    /// Head at the owner, as the owner last told, minus head here.
    pub lag: u64,
    /// How often the link was lost and restored.
    pub reconnects: u64,
    /// Bytes that the link did not get in time. Local readers are told of them as gaps.
    pub lost_bytes: u64,
    /// Local readers attached now.
    pub readers: u32,
}

/// A mount of another daemon's streams, with its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStat {
    /// The mount. Its `link` is `None`.
    pub hop: HopStat,
    /// The paths that this daemon follows now, and their links, sorted by path.
    pub links: Vec<(String, LinkStat)>,
}

/// Stats of one attached writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterStat {
    /// The process of the writer.
    pub peer: Peer,
    /// Time when the writer attached.
    pub since: SystemTime,
    /// Bytes appended by the writer.
    pub bytes: u64,
    /// Whether the writer waits for a `block` reader to make room.
    pub waiting: bool,
    /// Whether the writer holds a lease, that is, appends to the ring directly.
    pub leased: bool,
}

/// Stats of one attached reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderStat {
    /// The process of the reader.
    pub peer: Peer,
    /// Time when the reader attached.
    pub since: SystemTime,
    /// Offset at which the reader started.
    pub start: u64,
    /// The next offset that the reader will read.
    pub position: u64,
    /// Head minus position.
    pub lag: u64,
    /// How the reader is treated if it cannot keep up.
    pub policy: SlowPolicy,
    /// Lost bytes that the reader was told about.
    pub lost_bytes: u64,
    /// Lost chunks that the reader was told about.
    pub lost_chunks: u64,
    /// Whether a writer waits for this reader now.
    pub blocking: bool,
    /// Whether the reader was a `block` reader that kept a writer waiting for too long. Its policy
    /// is `drop` now.
    pub was_block: bool,
}

/// Summary of a stream in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// Path of the stream, mount included.
    pub path: String,
    /// Whether the stream accepts appends.
    pub state: State,
    /// Time of the creation.
    pub created: SystemTime,
    /// Time of the last append.
    pub last_append: Option<SystemTime>,
    /// Offset after the newest byte.
    pub head: u64,
    /// Offset of the oldest readable chunk.
    pub tail: u64,
    /// Writers attached now.
    pub writers: u32,
    /// Readers attached now.
    pub readers: u32,
}

/// Stats of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonInfo {
    /// Version of the program, as `pfsd --version` prints it.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Time when the daemon started.
    pub started: SystemTime,
    /// The mounts that the daemon serves, such as `/streamfs`.
    pub mounts: Vec<String>,
    /// Streams that exist now.
    pub streams: u64,
    /// Limit on streams.
    pub max_streams: u64,
    /// Bytes of memory that all rings take now.
    pub memory: u64,
    /// Limit on the bytes of memory that all rings take.
    pub max_memory: u64,
    /// Connections open now.
    pub connections: u64,
    /// Limit on open connections.
    pub max_connections: u64,
}
