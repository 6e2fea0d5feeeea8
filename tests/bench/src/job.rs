//! What a reader's or writer's process is told on its command line, and what it tells at its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::peers::{Address, Peer};

/// The number of the first writer in stamped chunks, and of each where no reader gets those of two.
pub const WRITER: u16 = 0;

/// What is written and read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Bytes in a chunk.
    pub chunk: usize,
    /// How many readers, each a process.
    pub readers: usize,
    /// How many write to the stream at once, each a process.
    pub writers: u16,
    /// The writer's library may hold chunks back to send several at once.
    pub batched: bool,
    /// Chunks a second; without it, as fast as it goes.
    pub rate: Option<u32>,
    /// How long to write.
    pub seconds: f64,
    /// With a rate: the first seconds of that, of which no latencies are counted.
    pub warm_up: f64,
    /// Chunks to write at most.
    pub limit: Option<u64>,
    /// Readers check every byte, not only the stamps.
    pub full: bool,
    /// How many streams; of several, each has a writer and a reader of its own.
    pub streams: usize,
    /// The writer stays when it has written, and says nothing of an end.
    pub stay: bool,
    /// What a stream holds, and how far a writer may be ahead of a reader, in bytes.
    pub window: u64,
}

impl Load {
    /// Chunks of 64 KiB, as fast as it goes.
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

    /// Chunks of 64 bytes, as fast as it goes.
    pub fn small(readers: usize, seconds: f64, batched: bool) -> Self {
        Self { chunk: 64, batched, ..Self::throughput(readers, seconds) }
    }

    /// 1,000 chunks of 64 bytes a second.
    pub fn latency(readers: usize, seconds: f64) -> Self {
        let warm_up = 2.0;
        Self { rate: Some(1000), warm_up, ..Self::small(readers, seconds + warm_up, false) }
    }

    /// How many chunks the window holds.
    pub fn window_chunks(&self) -> u64 {
        (self.window / self.chunk as u64).max(2)
    }
}

/// One reader or writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Through what.
    pub peer: Peer,
    /// Where that is.
    pub address: Address,
    /// The measurement's board.
    pub board: PathBuf,
    /// What is written and read.
    pub load: Load,
    /// Which of the readers, and of several streams which; for writers without meaning.
    pub reader: usize,
    /// The number of the writer in its chunks.
    pub writer: u16,
    /// Readers start with what is there already and end with the last chunk of `load.limit`.
    pub history: bool,
    /// How many readers this process is, each a thread.
    pub threads: usize,
}

/// The name of one of several streams.
pub fn name(stream: usize) -> String {
    format!("job-{stream}")
}

impl Job {
    /// The name of its stream, which is `only` if there are no others.
    pub fn stream(&self, only: &str) -> String {
        if self.load.streams > 1 { name(self.reader) } else { only.to_owned() }
    }
}

/// What a reader tells at its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReaderReport {
    /// Chunks that came.
    pub received: u64,
    /// Chunks that did not.
    pub lost: u64,
    /// Chunks that were damaged, repeated or out of order.
    pub corrupt: u64,
    /// From before it attached to the end, in nanoseconds.
    pub took: u64,
    /// When it got the last chunk (nanoseconds).
    pub ended: u64,
    /// Processor time in seconds.
    pub cpu: f64,
    /// With a rate: nanoseconds from append to arrival, and how often.
    pub latencies: Vec<(u64, u64)>,
    /// Why it had to give up.
    pub failure: Option<String>,
}

/// What the writer tells at its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WriterReport {
    /// Chunks that it appended.
    pub written: u64,
    /// Processor time in seconds.
    pub cpu: f64,
}
