//! Job of a reader or writer process, passed on its command line, and the report that it prints at
//! its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::peers::{Address, Peer};

/// Number of the first writer in stamped chunks, and of every writer where no reader receives
/// chunks of two writers.
pub const WRITER: u16 = 0;

/// Load of a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Chunk size, in bytes.
    pub chunk: usize,
    /// Number of readers, each a process.
    pub readers: usize,
    /// Number of concurrent writers of the stream, each a process.
    pub writers: u16,
    /// Whether the writer's library may hold chunks back and send several at once.
    pub batched: bool,
    /// Chunks per second; `None` means at full speed.
    pub rate: Option<u32>,
    /// How long to write, in seconds.
    pub seconds: f64,
    /// With a rate: time at the start, in seconds, whose latencies are not counted.
    pub warm_up: f64,
    /// Maximum number of chunks to write.
    pub limit: Option<u64>,
    /// Whether readers check every byte, not only the stamps.
    pub full: bool,
    /// Number of streams. If there are several, each has its own writer and reader.
    pub streams: usize,
    /// Whether the writer stays attached after writing and does not end the stream.
    pub stay: bool,
    /// Capacity of a stream, and the maximum lead of a writer over a reader, in bytes.
    pub window: u64,
}

impl Load {
    /// Chunks of 64 KiB at full speed.
    pub fn throughput(readers: usize, seconds: f64) -> Self {
        let (chunk, window) = (64 * 1024, 6 * 1024 * 1024);
        Self {
            chunk,
            readers,
            writers: 1,
            batched: false,
            rate: None,
            seconds,
            warm_up: 0.0,
            limit: None,
            full: false,
            streams: 1,
            stay: false,
            window,
        }
    }

    /// Chunks of 64 bytes at full speed.
    pub fn small(readers: usize, seconds: f64, batched: bool) -> Self {
        Self { chunk: 64, batched, ..Self::throughput(readers, seconds) }
    }

    /// 1,000 chunks of 64 bytes per second.
    pub fn latency(readers: usize, seconds: f64) -> Self {
        let warm_up = 2.0;
        Self { rate: Some(1000), warm_up, ..Self::small(readers, seconds + warm_up, false) }
    }

    /// Number of chunks in the window.
    pub fn window_chunks(&self) -> u64 {
        (self.window / self.chunk as u64).max(2)
    }
}

/// Job of one reader or writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The peer under test.
    pub peer: Peer,
    /// Address of the peer's server.
    pub address: Address,
    /// Path of the measurement's board.
    pub board: PathBuf,
    /// Load of the measurement.
    pub load: Load,
    /// Number of the reader and, if there are several streams, of the stream; meaningless for
    /// writers.
    pub reader: usize,
    /// Number of the writer in its chunks.
    pub writer: u16,
    /// Whether readers start with the history and end with chunk number `load.limit`.
    pub history: bool,
    /// Number of readers in this process, each a thread.
    pub threads: usize,
}

/// Name of one of several streams.
pub fn name(stream: usize) -> String {
    format!("job-{stream}")
}

impl Job {
    /// Name of this job's stream: `only` if there is just one stream.
    pub fn stream(&self, only: &str) -> String {
        if self.load.streams > 1 { name(self.reader) } else { only.to_owned() }
    }
}

/// Report of a reader.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReaderReport {
    /// Received chunks.
    pub received: u64,
    /// Lost chunks.
    pub lost: u64,
    /// Chunks that were damaged, repeated or out of order.
    pub corrupt: u64,
    /// Time from before the attachment to the end, in nanoseconds.
    pub took: u64,
    /// Time of the last chunk, in nanoseconds.
    pub ended: u64,
    /// Processor time in seconds.
    pub cpu: f64,
    /// With a rate: latency from append to arrival, in nanoseconds, and how often it occurred.
    pub latencies: Vec<(u64, u64)>,
    /// Reason of a failure.
    pub failure: Option<String>,
}

/// Report of a writer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WriterReport {
    /// Appended chunks.
    pub written: u64,
    /// Processor time in seconds.
    pub cpu: f64,
}
