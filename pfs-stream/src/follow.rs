//! A reader of this process, as a [`StreamReader`].

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use pfs_proto::Event;

use crate::{ReadFailure, Reader, StreamReader};

impl Reader {
    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_event(&mut self) -> Result<Option<Event>, ReadFailure> {
        match self.ready_chunk() {
            Some(chunk) => Ok(Some(Event::Chunk(chunk))),
            None => self.try_batch(),
        }
    }

    /// The next chunk, if it was taken before or can be taken without a look at anything else.
    #[inline(always)]
    fn ready_chunk(&mut self) -> Option<Bytes> {
        self.batch.next().or_else(|| self.next_held())
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
        match self.ready_chunk() {
            Some(chunk) => Poll::Ready(Ok(Event::Chunk(chunk))),
            None => self.poll_batch(cx),
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
