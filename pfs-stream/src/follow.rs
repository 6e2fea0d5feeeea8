//! A reader of this process, as a [`StreamReader`].

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pfs_proto::Event;

use crate::{ReadError, Reader, StreamReader, reader::Taken};

impl Reader {
    /// The next event, however long it takes.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; then the same again.
    ///
    /// # Cancel safety
    ///
    /// An event is taken only if it was returned.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "its end is an event")]
    pub fn next(&mut self) -> impl Future<Output = Result<Event, ReadError>> + Send {
        NextEvent(self)
    }

    /// As [`next`](Self::next), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_blocking(&mut self) -> Result<Event, ReadError> {
        match self.try_next()? {
            Some(event) => Ok(event),
            None => pollster::block_on(self.next()),
        }
    }

    /// As [`next`](Self::next), but does not wait: `None` if there is nothing now.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
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

/// The next event of a reader. Compiled into whoever awaits it: the call, and what it would return
/// through memory, would take longer than to hand on a small chunk.
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
            // A chunk comes by no way but this one: what it is returned in need not be in memory,
            // where the rest is.
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
