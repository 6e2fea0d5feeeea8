//! Rate limit for a reader or writer.

use std::{
    future::poll_fn,
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pfs_proto::Event;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Chunk, Finish, ReadError, StreamReader, StreamWriter, WriteError};

/// Maximum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rate {
    /// Bytes per second.
    Bytes(NonZeroU64),
    /// Chunks per second.
    Chunks(NonZeroU64),
}

impl Rate {
    /// How long a chunk of this size takes at this rate.
    fn time(self, bytes: usize) -> Duration {
        let (amount, a_second) = match self {
            Self::Bytes(rate) => (bytes as u128, rate),
            Self::Chunks(rate) => (1, rate),
        };
        let nanos = amount.saturating_mul(1_000_000_000) / u128::from(a_second.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A reader or writer that does not exceed a rate: after each chunk it waits for the time that this
/// chunk takes at the rate. Chunks are never split, and unused time is not saved up for bursts.
///
/// A throttled reader is a slow reader, and its policy decides what happens when it cannot keep up:
/// a `drop` reader is told of gaps; a `block` reader slows the writers down to its own rate. A
/// throttled writer waits before it hands a chunk over.
///
/// Made by [`StreamReader::throttled`] and [`StreamWriter::throttled`]. Poll it in a tokio runtime
/// whose timer is enabled. Cancel safe: it waits only before it takes or hands over a chunk.
///
/// ```
/// # use std::{num::NonZeroU64, time::Instant};
/// # use pfs_stream::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let begin = Instant::now();
/// let mut writer = stream.writer()?.throttled(Rate::Chunks(NonZeroU64::MIN.saturating_add(99)));
/// for _ in 0..3 {
///     writer.append(b"frame").await?;
/// }
/// assert!(begin.elapsed().as_millis() >= 20, "100 a second: the third comes after two hundredths");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Throttle<T> {
    inner: T,
    rate: Rate,
    /// Runs until the next chunk is due.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the next chunk is due; `None` if it is due at once.
    next: Option<Instant>,
}

impl<T> Throttle<T> {
    /// Limits a reader or writer to this rate.
    pub fn new(inner: T, rate: Rate) -> Self {
        Self { inner, rate, timer: None, next: None }
    }

    /// Returns the underlying reader or writer.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(next) = self.next {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
            self.next = None;
        }
        Poll::Ready(())
    }

    fn count(&mut self, bytes: usize) {
        self.next = Instant::now().checked_add(self.rate.time(bytes));
    }
}

impl<R: StreamReader> StreamReader for Throttle<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        ready!(self.poll_turn(cx));
        let event = ready!(self.inner.poll_next(cx));
        if let Ok(Event::Chunk(chunk)) = &event {
            self.count(chunk.len());
        }
        Poll::Ready(event)
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn lost_bytes(&self) -> u64 {
        self.inner.lost_bytes()
    }

    fn lost_chunks(&self) -> u64 {
        self.inner.lost_chunks()
    }
}

impl<W: StreamWriter> StreamWriter for Throttle<W> {
    fn max_chunk(&self) -> u64 {
        self.inner.max_chunk()
    }

    fn readers(&self) -> u32 {
        self.inner.readers()
    }

    async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_turn(cx)).await;
        let len = chunk.as_ref().len();
        self.inner.append(chunk).await?;
        self.count(len);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), WriteError> {
        self.inner.flush().await
    }

    async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.inner.finish(finish).await
    }
}
