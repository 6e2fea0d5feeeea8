//! Readers of many streams of the second daemon, each a task that checks every byte.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pfs_client::{Chunks, Client, Endpoint, Event, ReadOptions, Start};
use pfs_measure::{
    clock,
    latency::Latencies,
    stamp::{Checker, Seen},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::timeout,
};

use super::{Address, pfs};
use crate::job::{WRITER, name};

/// Readers that attach at the same time.
const ATTACHING: usize = 64;

/// Time limit for a reader to attach, and to come to its end.
const READER_TIMEOUT: Duration = Duration::from_secs(30);

/// Latencies of the chunks that have arrived at any reader. Locked by one thread at a time, because
/// all readers are on one.
type Arrived = Mutex<Latencies>;

/// Readers of mounted streams, one each.
pub struct Readers {
    runtime: Runtime,
    tasks: JoinSet<io::Result<Checker>>,
    streams: Vec<usize>,
    arrived: Arc<Arrived>,
    failure: Option<String>,
}

impl Readers {
    /// Attaches a reader to each of the first `count` streams, to read chunks of this size from the
    /// first one on. Attaches fewer if one fails.
    ///
    /// The readers have connections to the Unix socket: a reader over shm needs more descriptors.
    pub fn attach(address: &Address, count: usize, chunk: usize) -> io::Result<Self> {
        let Address::Mounted { edge, .. } = address else {
            return Err(io::Error::other(format!("nothing is mounted at {address:?}")));
        };
        // One thread besides that of the writer.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(Client::connect(Endpoint::Unix(edge.clone())));
        let client = client.map_err(io::Error::other)?.with_shm(false);
        let mut readers = Self {
            runtime,
            tasks: JoinSet::new(),
            streams: Vec::with_capacity(count),
            arrived: Arc::default(),
            failure: None,
        };
        let mut attaching = JoinSet::new();
        let mut next = 0;
        loop {
            while readers.failure.is_none() && next < count && attaching.len() < ATTACHING {
                attaching.spawn_on(attach(client.clone(), next), readers.runtime.handle());
                next += 1;
            }
            let Some(attached) = readers.runtime.block_on(attaching.join_next()) else { break };
            match attached.map_err(io::Error::other)? {
                Ok((stream, reader)) => {
                    readers.streams.push(stream);
                    let read = read(reader, chunk, Arc::clone(&readers.arrived));
                    readers.tasks.spawn_on(read, readers.runtime.handle());
                }
                Err(error) => _ = readers.failure.get_or_insert_with(|| error.to_string()),
            }
        }
        Ok(readers)
    }

    /// Streams whose readers are attached.
    pub fn streams(&self) -> &[usize] {
        &self.streams
    }

    /// Reason why there are not as many readers as wanted.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Chunks that have arrived at all readers together since the latencies were taken.
    pub fn arrived(&self) -> u64 {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).total()
    }

    /// Takes the latencies of the chunks that have arrived at all readers together since the last
    /// call.
    pub fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until all readers have come to the ends of their streams, and returns what each has
    /// found.
    pub fn finish(mut self) -> io::Result<Vec<Checker>> {
        let mut checkers = Vec::with_capacity(self.streams.len());
        self.runtime.block_on(async {
            while let Some(read) = timeout(READER_TIMEOUT, self.tasks.join_next()).await? {
                checkers.push(read.map_err(io::Error::other)??);
            }
            Ok(checkers)
        })
    }
}

async fn attach(client: Client, stream: usize) -> io::Result<(usize, pfs_client::Reader)> {
    let path = pfs::path_in(pfs::EDGE, &name(stream))?;
    let options = ReadOptions { start: Start::Oldest, ..ReadOptions::default() };
    let attaching = async {
        let mut reader = client.reader(path, options).await.map_err(io::Error::other)?;
        // While the second daemon opens the link, the reader waits.
        while !matches!(reader.next().await.map_err(io::Error::other)?, Event::Attached { .. }) {}
        Ok((stream, reader))
    };
    timeout(READER_TIMEOUT, attaching).await?
}

async fn read(
    mut reader: pfs_client::Reader,
    chunk: usize,
    arrived: Arc<Arrived>,
) -> io::Result<Checker> {
    let (mut checker, mut chunks) = (Checker::new(WRITER, chunk, true), Chunks::new());
    loop {
        let event = reader.next_batch(&mut chunks).await.map_err(io::Error::other)?;
        if let Some(Event::End { .. }) = event {
            return Ok(checker);
        }
        let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks.iter() {
            // The checker counts the damage.
            if let Ok(Seen::Data(made)) = checker.check(chunk) {
                arrived.record(made.latency(clock::now()));
            }
        }
    }
}
