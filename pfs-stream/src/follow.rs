//! A reader of this process, as a [`StreamReader`].

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pfs_proto::Event;

use crate::{ReadFailure, Reader, StreamReader, reader::Taken};

impl Reader {
    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_event(&mut self) -> Result<Option<Event>, ReadFailure> {
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

/// The next event of a reader. Compiled into whoever awaits it: the call, and what it would return through memory, would take
/// longer than to hand on a small chunk.
struct NextEvent<'a>(&'a mut Reader);

impl Future for NextEvent<'_> {
    type Output = Result<Event, ReadFailure>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_event(cx)
    }
}

impl StreamReader for Reader {
    #[inline(always)]
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadFailure>> {
        loop {
            // A chunk comes by no way but this one: what it is returned in need not be in memory, where the rest is.
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
    fn event(&mut self) -> impl Future<Output = Result<Event, ReadFailure>> + Send {
        NextEvent(self)
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
