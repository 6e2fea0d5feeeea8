//! Event API of the reader: `next`, and the `StreamReader` implementation.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pfs_proto::Event;

use crate::{ReadError, Reader, StreamReader, reader::Taken};

impl Reader {
    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; every later call returns the same error.
    ///
    /// # Cancel safety
    ///
    /// An event is taken only if it was returned.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "the end of the stream is an event")]
    pub fn next(&mut self) -> impl Future<Output = Result<Event, ReadError>> + Send {
        NextEvent(self)
    }

    /// Like [`next`](Self::next), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; every later call returns the same error.
    pub fn next_blocking(&mut self) -> Result<Event, ReadError> {
        match self.try_next()? {
            Some(event) => Ok(event),
            None => pollster::block_on(self.next()),
        }
    }

    /// Like [`next`](Self::next), but does not wait: `None` if there is no event now.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; every later call returns the same error.
    pub fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            if let Some(chunk) = self.batch.next() {
                return Ok(Some(Event::Chunk(chunk)));
            }
            match self.try_batch()? {
                Some(Taken::Chunks) => {}
                Some(Taken::Event(event)) => return Ok(Some(event)),
                None => return Ok(None),
            }
        }
    }
}

/// Future of the next event. Inlined into the code that awaits it: a call that returns its result
/// through memory would take longer than returning a small chunk.
struct NextEvent<'a>(&'a mut Reader);

impl Future for NextEvent<'_> {
    type Output = Result<Event, ReadError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(cx)
    }
}

impl StreamReader for Reader {
    #[inline(always)]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        loop {
            // The only place that returns a chunk, so the compiler can keep the chunk in registers.
            // Other results are returned through memory.
            if let Some(chunk) = self.batch.next() {
                return Poll::Ready(Ok(Event::Chunk(chunk)));
            }
            match ready!(self.poll_batch(cx)) {
                Ok(Taken::Chunks) => {}
                Ok(Taken::Event(event)) => return Poll::Ready(Ok(event)),
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
    }

    #[inline]
    fn next(&mut self) -> impl Future<Output = Result<Event, ReadError>> + Send {
        Self::next(self)
    }

    fn position(&self) -> u64 {
        Self::position(self)
    }

    fn lost_bytes(&self) -> u64 {
        Self::lost_bytes(self)
    }

    fn lost_chunks(&self) -> u64 {
        Self::lost_chunks(self)
    }
}
