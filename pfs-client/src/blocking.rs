//! Writing and following streams without asynchronous code.
//!
//! For programs that have a thread to spare for each reader and writer. Where memory is shared with
//! the daemon this is also the fastest way: the thread itself sleeps in the ring, and nothing
//! stands between it and the bytes.
//!
//! A reader yields before it sleeps. Gain: 43 % in chunks of 64 KiB to 16 readers,
//! docs/bench/optimisations.md
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
//! Whatever waits here panics in asynchronous code, where tokio lets nothing block: there, use the
//! types of the crate's root, or `tokio::task::spawn_blocking`.

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

/// How often a reader lets others run before it sleeps. When much is going on, there is something
/// to read afterwards, and neither falling asleep nor being woken was necessary; when nothing is,
/// it costs next to nothing.
#[cfg(target_os = "linux")]
const YIELDS_BEFORE_SLEEP: u32 = 4;

/// Where a daemon is, and how to get readers and writers of its streams. Each has a connection of
/// its own.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    shm: bool,
    #[cfg(feature = "http")]
    half_duplex: bool,
}

impl Client {
    /// A client of the daemon there. Nothing is connected yet: with [`Endpoint::Lookup`], the
    /// daemon is looked for when a reader or writer is opened.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.into(),
            shm: true,
            #[cfg(feature = "http")]
            half_duplex: false,
        }
    }

    /// As [`Client::with_shm`](crate::Client::with_shm).
    #[must_use]
    pub fn with_shm(self, shm: bool) -> Self {
        Self { shm, ..self }
    }

    /// As [`Client::with_half_duplex`](crate::Client::with_half_duplex).
    #[cfg(feature = "http")]
    #[must_use]
    pub fn with_half_duplex(self, half_duplex: bool) -> Self {
        Self { half_duplex, ..self }
    }

    /// As [`Client::reader`](crate::Client::reader).
    ///
    /// # Errors
    ///
    /// As there.
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

    /// As [`Client::writer`](crate::Client::writer).
    ///
    /// # Errors
    ///
    /// As there.
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
            // HTTP has work of its own to do, also while nobody waits for it.
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

/// As [`Events`](crate::Events), for a thread of its own: an iterator, whose last item is an error
/// unless the stream was removed.
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

/// As [`Reader`](crate::Reader), for a thread of its own.
#[derive(Debug)]
pub struct Reader {
    runtime: Runtime,
    reader: crate::Reader,
}

impl Reader {
    /// Waits for what comes next: adds all chunks that came together to `chunks`, which is emptied
    /// first, or returns an event that is something else. After [`Event::End`] it is that
    /// again.
    ///
    /// # Errors
    ///
    /// When the reader's stream broke off; then forever.
    pub fn next_batch(&mut self, chunks: &mut Chunks) -> Result<Option<Event>, ReadError> {
        self.wait_for(|reader| {
            let event = reader.try_next_batch(chunks)?;
            Ok((event.is_some() || !chunks.is_empty()).then_some(event))
        })
    }

    /// Waits for the next event. After [`Event::End`] it is that again.
    ///
    /// # Errors
    ///
    /// When the reader's stream broke off; then forever.
    #[allow(clippy::should_implement_trait, reason = "its end is an event")]
    pub fn next(&mut self) -> Result<Event, ReadError> {
        self.wait_for(crate::Reader::try_next)
    }

    /// Waits until there is something to take.
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

    /// As [`Reader::try_next`](crate::Reader::try_next): what a wait before has brought.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        self.reader.try_next()
    }

    /// Bytes in all gaps so far. Only ever grows.
    pub fn lost_bytes(&self) -> u64 {
        self.reader.lost_bytes()
    }

    /// Chunks in all gaps so far, where it is known how many.
    pub fn lost_chunks(&self) -> u64 {
        self.reader.lost_chunks()
    }

    /// Offset after everything that was returned, or of the first event that will be.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// As [`Reader::is_shm`](crate::Reader::is_shm).
    pub fn is_shm(&self) -> bool {
        self.reader.is_shm()
    }
}

/// As [`Writer`](crate::Writer), for a thread of its own.
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

    /// As [`Writer::is_shm`](crate::Writer::is_shm).
    pub fn is_shm(&self) -> bool {
        self.writer.is_shm()
    }

    /// As [`Writer::readers`](crate::Writer::readers).
    pub fn readers(&self) -> u32 {
        self.writer.readers()
    }

    /// As [`Writer::is_acknowledged`](crate::Writer::is_acknowledged).
    pub fn is_acknowledged(&self) -> bool {
        self.writer.is_acknowledged()
    }

    /// As [`Writer::appended`](crate::Writer::appended).
    pub fn appended(&self) -> u64 {
        self.writer.appended()
    }

    /// As [`Writer::acked`](crate::Writer::acked).
    pub fn acked(&self) -> u64 {
        self.writer.acked()
    }

    /// As [`Writer::append`](crate::Writer::append).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        let chunk = chunk.as_ref();
        // No future is made for most small chunks: that would cost more than they do.
        if self.writer.try_put(chunk).is_none() {
            return run(&self.runtime, self.writer.append(chunk));
        }
        self.send()
    }

    /// As [`Writer::push`](crate::Writer::push).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn push(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        let chunk = chunk.as_ref();
        match self.writer.try_put(chunk) {
            Some(false) => Ok(()),
            Some(true) => self.send(),
            None => run(&self.runtime, self.writer.push(chunk)),
        }
    }

    /// As [`Writer::send`](crate::Writer::send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(&mut self) -> Result<(), WriteError> {
        if self.writer.must_listen() { run(&self.runtime, self.writer.send()) } else { Ok(()) }
    }

    /// As [`Writer::flush`](crate::Writer::flush).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        run(&self.runtime, self.writer.flush())
    }

    /// Blocks until the writer fails, and returns why. For programs that have nothing to append at
    /// the moment and still want to know when the stream is closed or removed or the daemon is
    /// gone.
    pub fn failure(&mut self) -> WriteError {
        self.runtime.block_on(self.writer.failure())
    }

    /// As [`Writer::withdraw`](crate::Writer::withdraw).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn withdraw(self) -> Result<(), WriteError> {
        self.runtime.block_on(self.writer.withdraw())
    }

    /// As [`Writer::finish`](crate::Writer::finish).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.runtime.block_on(self.writer.finish(finish))
    }
}

/// Enters the runtime only for what has to wait: most small appends do not, and entering costs more
/// than they do.
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
