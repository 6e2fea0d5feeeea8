//! What the processes of a measurement tell each other, as JSON: its job in a process's arguments,
//! what it has to say on its standard output, a line each.

use pfs_proto::StreamPath;
use serde::{Deserialize, Serialize};

use crate::cli::Slow;

/// The first argument of a process that was started for a job. No command of a user's: it stands
/// neither in the help nor in the manual.
pub(super) const COMMAND: &str = "bench-worker";

/// What one process is there for. Where the daemon is stands in its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(super) path: String,
    /// Whether memory is shared with the daemon where that is possible.
    pub(super) shm: bool,
    /// Size of each chunk.
    pub(super) chunk: usize,
    pub(super) role: Role,
}

/// The part that it plays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Appends so many chunks, the next one `interval` nanoseconds after the last one if there is
    /// one.
    Writer { number: u16, chunks: u64, interval: Option<u64> },
    /// Reads to the end, and keeps how long each chunk took if they are `timed`.
    Reader { writers: u16, slow: Slow, timed: bool },
    /// Removes the stream when nobody holds its standard input any more, if it was told that there
    /// is one.
    Remover,
}

impl Job {
    /// The path, as the daemon's client wants it.
    pub(super) fn path(&self) -> anyhow::Result<StreamPath> {
        Ok(self.path.parse()?)
    }
}

/// A line of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// It is attached.
    Ready { shm: bool },
    /// All that a writer had to append is in the stream.
    Wrote(Wrote),
    /// A reader came to its end.
    Read(Read),
    /// It could not do its job.
    Failed { code: u8, message: String },
}

/// What a writer did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrote {
    pub(super) chunks: u64,
    /// Nanoseconds of the clock that all share.
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// What a reader got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) chunks: u64,
    /// When the last chunk came, in nanoseconds of the clock that all share; 0 if none did.
    pub(super) ended: u64,
    pub(super) lost_bytes: u64,
    pub(super) gaps: u64,
    /// Whether it was disconnected for being slow.
    pub(super) disconnected: bool,
    /// How often which latency (in nanoseconds) occurred.
    pub(super) latencies: Vec<(u64, u64)>,
}
