//! Blocking API: write and follow streams without async code.
//!
//! For programs that can spend a thread on each reader and writer. With shared memory this is also
//! the fastest API: the thread itself sleeps on the ring buffer's futex, with no runtime
//! in between.
//!
//! A reader yields the processor before it sleeps. Gain: 43 % in chunks of 64 KiB to 16 readers
//! (docs/bench/optimisations.md).
//!
//! ```no_run
//! use pfs_client::{Chunks, Endpoint, Event, ReadOptions, blocking::Client};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Endpoint::from_env()?);
//! let mut reader = client.reader("/streamfs/cam", ReadOptions::default())?;
//! let mut chunks = Chunks::new();
//! loop {
//!     match reader.next_batch(&mut chunks)? {
//!         None => chunks.iter().for_each(|chunk| println!("{} bytes", chunk.len())),
//!         Some(Event::End { .. }) => break Ok(()),
//!         Some(event) => println!("{event:?}"),
//!     }
//! }
//! # }
//! ```
//!
//! # Panics
//!
//! Every method that waits panics inside a tokio runtime, which forbids blocking. In async code,
//! use the types of the crate root, or `tokio::task::spawn_blocking`.

mod adapt;
mod requests;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

use pfs_proto::{PathError, ReadOptions, StreamEvent, StreamPath, WriteOptions};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Chunk, Chunks, ConnectError, Endpoint, Event, Finish, ReadError, RequestError, WriteError,
};

/// How many times a reader yields the processor before it sleeps. Under load, data often arrives
/// during a yield, which saves the cost of falling asleep and of being woken. Without load, the
/// yields cost next to nothing.
#[cfg(target_os = "linux")]
const YIELDS_BEFORE_SLEEP: u32 = 4;

/// Blocking client of one daemon. Each reader, writer and request opens its own connection.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    shm: bool,
    #[cfg(feature = "http")]
    half_duplex: bool,
}

impl Client {
    /// A client of the daemon at `endpoint`. Does not connect yet. With [`Endpoint::Lookup`], every
    /// request, reader and writer looks the daemon up.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.into(),
            shm: true,
            #[cfg(feature = "http")]
            half_duplex: false,
        }
    }

    /// Turns shared memory on or off. Same as [`Client::with_shm`](crate::Client::with_shm).
    #[must_use]
    pub fn with_shm(self, shm: bool) -> Self {
        Self { shm, ..self }
    }

    /// Lets writers work through a half-duplex proxy. Same as
    /// [`Client::with_half_duplex`](crate::Client::with_half_duplex).
    #[cfg(feature = "http")]
    #[must_use]
    pub fn with_half_duplex(self, half_duplex: bool) -> Self {
        Self { half_duplex, ..self }
    }

    /// Attaches a reader. Blocking form of [`Client::reader`](crate::Client::reader).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::reader`](crate::Client::reader).
    pub fn reader(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: ReadOptions,
    ) -> Result<Reader, RequestError> {
        let runtime = self.runtime()?;
        let reader =
            runtime.block_on(async { self.client().await?.reader(path, options).await })?;
        Ok(Reader { runtime, reader })
    }

    /// Attaches a writer. Blocking form of [`Client::writer`](crate::Client::writer).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::writer`](crate::Client::writer).
    pub fn writer(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: WriteOptions,
    ) -> Result<Writer, RequestError> {
        let runtime = self.runtime()?;
        let writer =
            runtime.block_on(async { self.client().await?.writer(path, options).await })?;
        Ok(Writer { runtime, writer })
    }

    async fn client(&self) -> Result<crate::Client, ConnectError> {
        let client = crate::Client::connect(self.endpoint.clone()).await?.with_shm(self.shm);
        #[cfg(feature = "http")]
        let client = client.with_half_duplex(self.half_duplex);
        Ok(client)
    }

    pub(crate) fn runtime(&self) -> Result<Runtime, ConnectError> {
        let mut builder = match self.endpoint {
            Endpoint::Unix(_) | Endpoint::Lookup(_) => Builder::new_current_thread(),
            #[cfg(feature = "link")]
            Endpoint::Connector(_) => Builder::new_current_thread(),
            // HTTP has background work to do even while no call waits.
            #[cfg(feature = "http")]
            Endpoint::Http(_) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(1);
                builder
            }
        };
        builder.enable_all().build().map_err(|error| ConnectError::System(error.into()))
    }
}

/// Blocking form of [`Events`](crate::Events): an iterator. Its last item is an error, unless the
/// stream was removed.
#[derive(Debug)]
pub struct Events {
    runtime: Runtime,
    events: crate::Events,
    has_failed: bool,
}

impl Iterator for Events {
    type Item = Result<StreamEvent, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let event = self.runtime.block_on(self.events.next()).transpose();
        self.has_failed = matches!(event, Some(Err(_)));
        event
    }
}

/// Blocking form of [`Reader`](crate::Reader).
#[derive(Debug)]
pub struct Reader {
    runtime: Runtime,
    reader: crate::Reader,
}

impl Reader {
    /// Waits for a batch of chunks: clears `chunks`, fills it with all chunks that arrived together
    /// and returns `None`; or returns an event that is not a chunk. After [`Event::End`], returns
    /// the same event again.
    ///
    /// # Errors
    ///
    /// The reader failed. Every later call returns the same error.
    pub fn next_batch(&mut self, chunks: &mut Chunks) -> Result<Option<Event>, ReadError> {
        self.wait_for(|reader| {
            let event = reader.try_next_batch(chunks)?;
            Ok((event.is_some() || !chunks.is_empty()).then_some(event))
        })
    }

    /// Waits for the next event. After [`Event::End`], returns the same event again.
    ///
    /// # Errors
    ///
    /// The reader failed. Every later call returns the same error.
    #[allow(clippy::should_implement_trait, reason = "the end of a stream is an event")]
    pub fn next(&mut self) -> Result<Event, ReadError> {
        self.wait_for(crate::Reader::try_next)
    }

    /// Waits until `take` returns a value.
    fn wait_for<T>(
        &mut self,
        mut take: impl FnMut(&mut crate::Reader) -> Result<Option<T>, ReadError>,
    ) -> Result<T, ReadError> {
        #[cfg(target_os = "linux")]
        let mut yields = 0;
        loop {
            let count = self.reader.notify_count();
            if let Some(taken) = take(&mut self.reader)? {
                return Ok(taken);
            }
            #[cfg(target_os = "linux")]
            if let (true, Some(count)) = (self.reader.may_sleep()?, count) {
                if yields < YIELDS_BEFORE_SLEEP {
                    yields += 1;
                    std::thread::yield_now();
                } else {
                    self.runtime.block_on(self.reader.say())?;
                    self.reader.sleep(count);
                }
                continue;
            }
            self.runtime.block_on(poll_fn(|cx| self.reader.poll_news(cx, count)))?;
        }
    }

    /// Returns the next event if an earlier wait has already received it. Same as
    /// [`Reader::try_next`](crate::Reader::try_next).
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        self.reader.try_next()
    }

    /// Bytes lost in all gaps so far. Never decreases.
    pub fn lost_bytes(&self) -> u64 {
        self.reader.lost_bytes()
    }

    /// Chunks lost in all gaps so far, as far as their number is known.
    pub fn lost_chunks(&self) -> u64 {
        self.reader.lost_chunks()
    }

    /// The offset after everything that was returned. Before the first event: the offset where
    /// reading starts.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Returns true if the reader reads from memory shared with the daemon. Same as
    /// [`Reader::is_shm`](crate::Reader::is_shm).
    pub fn is_shm(&self) -> bool {
        self.reader.is_shm()
    }
}

/// Blocking form of [`Writer`](crate::Writer).
#[derive(Debug)]
pub struct Writer {
    runtime: Runtime,
    writer: crate::Writer,
}

impl Writer {
    /// The largest chunk that the stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.writer.max_chunk()
    }

    /// Returns true if the writer can share memory with the daemon. Same as
    /// [`Writer::is_shm`](crate::Writer::is_shm).
    pub fn is_shm(&self) -> bool {
        self.writer.is_shm()
    }

    /// Readers attached at the newest acknowledged chunk. Same as
    /// [`Writer::readers`](crate::Writer::readers).
    pub fn readers(&self) -> u32 {
        self.writer.readers()
    }

    /// Returns true if the daemon acknowledges chunks while the writer is still writing. Same as
    /// [`Writer::is_acknowledged`](crate::Writer::is_acknowledged).
    pub fn is_acknowledged(&self) -> bool {
        self.writer.is_acknowledged()
    }

    /// Chunks appended or pushed. Same as [`Writer::appended`](crate::Writer::appended).
    pub fn appended(&self) -> u64 {
        self.writer.appended()
    }

    /// Chunks certain to be in the stream. Same as [`Writer::acked`](crate::Writer::acked).
    pub fn acked(&self) -> u64 {
        self.writer.acked()
    }

    /// Appends one chunk and sends it. Blocking form of [`Writer::append`](crate::Writer::append).
    ///
    /// # Errors
    ///
    /// The errors of [`Writer::append`](crate::Writer::append).
    pub fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        let chunk = chunk.as_ref();
        // Most small chunks need no future. Creating one would cost more than the append.
        if self.writer.try_put(chunk).is_none() {
            return run(&self.runtime, self.writer.append(chunk));
        }
        self.send()
    }

    /// Appends one chunk without sending it yet. Blocking form of
    /// [`Writer::push`](crate::Writer::push).
    ///
    /// # Errors
    ///
    /// The errors of [`Writer::push`](crate::Writer::push).
    pub fn push(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        let chunk = chunk.as_ref();
        match self.writer.try_put(chunk) {
            Some(false) => Ok(()),
            Some(true) => self.send(),
            None => run(&self.runtime, self.writer.push(chunk)),
        }
    }

    /// Marks the next chunk as a sync point. Same as
    /// [`Writer::mark_sync`](crate::Writer::mark_sync).
    ///
    /// # Errors
    ///
    /// The daemon is older than this library.
    pub fn mark_sync(&mut self) -> Result<(), WriteError> {
        self.writer.mark_sync()
    }

    /// Sends all pushed chunks. Blocking form of [`Writer::send`](crate::Writer::send).
    ///
    /// # Errors
    ///
    /// The writer has failed.
    pub fn send(&mut self) -> Result<(), WriteError> {
        if self.writer.must_listen() { run(&self.runtime, self.writer.send()) } else { Ok(()) }
    }

    /// Waits until all chunks are in the stream. Blocking form of
    /// [`Writer::flush`](crate::Writer::flush).
    ///
    /// # Errors
    ///
    /// The writer has failed.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        run(&self.runtime, self.writer.flush())
    }

    /// Waits until the writer fails, and returns the error. For programs that have nothing to
    /// append at the moment and still want to know when the stream is closed or removed or the
    /// daemon is gone.
    pub fn failure(&mut self) -> WriteError {
        self.runtime.block_on(self.writer.failure())
    }

    /// Withdraws the writer before it has appended anything. Blocking form of
    /// [`Writer::withdraw`](crate::Writer::withdraw).
    ///
    /// # Errors
    ///
    /// The errors of [`Writer::withdraw`](crate::Writer::withdraw).
    pub fn withdraw(self) -> Result<(), WriteError> {
        self.runtime.block_on(self.writer.withdraw())
    }

    /// Finishes the writer. Blocking form of [`Writer::finish`](crate::Writer::finish).
    ///
    /// # Errors
    ///
    /// The writer has failed.
    pub fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.runtime.block_on(self.writer.finish(finish))
    }
}

/// Polls once without the runtime, and enters the runtime only if the future has to wait. Most
/// small appends do not wait, and entering the runtime costs more than they do.
fn run<T>(
    runtime: &Runtime,
    future: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => runtime.block_on(future),
    }
}
