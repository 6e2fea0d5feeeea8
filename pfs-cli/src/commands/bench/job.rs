//! Messages between the processes of a measurement, as JSON. A worker gets its job as an argument,
//! and answers on its standard output, one message per line.

use pfs_proto::StreamPath;
use serde::{Deserialize, Serialize};

use crate::cli::Slow;

/// First argument of a worker process. Not a command for users, so neither the help nor the man
/// pages mention it.
pub(super) const COMMAND: &str = "bench-worker";

/// Job of one worker. The address of the daemon is in the worker's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(super) path: String,
    /// Whether to share memory with the daemon if possible.
    pub(super) shm: bool,
    /// Size of each chunk.
    pub(super) chunk: usize,
    pub(super) role: Role,
}

/// Kind of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Appends `chunks` chunks, one every `interval` nanoseconds if an interval is given.
    Writer { number: u16, chunks: u64, interval: Option<u64> },
    /// Reads to the end. Records the latency of each chunk if `timed` is set.
    Reader { writers: u16, slow: Slow, timed: bool },
    /// Removes the stream when its standard input is closed, if it was told that the stream exists.
    Remover,
}

impl Job {
    /// The parsed path.
    pub(super) fn path(&self) -> anyhow::Result<StreamPath> {
        Ok(self.path.parse()?)
    }
}

/// A message of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// The worker is attached.
    Ready { shm: bool },
    /// Everything that the writer had to append is in the stream.
    Wrote(Wrote),
    /// The reader reached the end.
    Read(Read),
    /// The worker failed.
    Failed { code: u8, message: String },
}

/// Result of a writer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrote {
    pub(super) chunks: u64,
    /// Nanoseconds of the clock that all processes share.
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// Result of a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) chunks: u64,
    /// Arrival of the last chunk, in nanoseconds of the clock that all processes share; 0 if no
    /// chunk arrived.
    pub(super) ended: u64,
    pub(super) lost_bytes: u64,
    pub(super) gaps: u64,
    /// Whether the reader was disconnected for being slow.
    pub(super) disconnected: bool,
    /// Histogram: pairs of a latency in nanoseconds and the number of its occurrences.
    pub(super) latencies: Vec<(u64, u64)>,
}
