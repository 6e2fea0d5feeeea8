//! Stall detection: a reader that fails when nothing comes for a while.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pfs_proto::Event;
use tokio::time::{Instant, Sleep, sleep};

use crate::{ReadError, StreamReader};

/// Stall detector: a reader that returns [`ReadError::Stalled`] each time it has waited `after`
/// without an event. A stall loses nothing: the next event is returned as usual.
///
/// Only waiting counts. The timer starts when there is nothing to read, and each event stops it;
/// the time that the program takes between two events does not count.
///
/// Made by [`StreamReader::stalls_after`]. A stall detector is itself a reader, so it can be made a
/// byte stream or a typed reader. Poll it in a tokio runtime whose timer is enabled. Cancel safe;
/// the timer keeps running while the detector is not polled.
///
/// ```
/// # use std::time::Duration;
/// # use pfs_stream::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut writer = stream.writer()?;
/// let reader = stream.reader(ReadOptions::default())?;
/// let mut reader = reader.stalls_after(Duration::from_millis(5));
/// assert!(matches!(reader.next().await, Err(ReadError::Stalled { .. })));
/// writer.append(b"at last").await?;
/// assert_eq!(reader.next().await?, Event::Chunk("at last".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StallDetector<R> {
    reader: R,
    after: Duration,
    /// Runs while the detector waits for an event.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<R: StreamReader> StallDetector<R> {
    /// Wraps a reader, which then stalls after this time.
    pub fn new(reader: R, after: Duration) -> Self {
        Self { reader, after, timer: None, waiting: false }
    }

    /// Returns the underlying reader.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: StreamReader> StreamReader for StallDetector<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        if let Poll::Ready(event) = self.reader.poll_next(cx) {
            self.waiting = false;
            return Poll::Ready(event);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.after)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + self.after);
        }
        if timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + self.after);
            return Poll::Ready(Err(ReadError::Stalled { after: self.after }));
        }
        Poll::Pending
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }

    fn lost_bytes(&self) -> u64 {
        self.reader.lost_bytes()
    }

    fn lost_chunks(&self) -> u64 {
        self.reader.lost_chunks()
    }
}
