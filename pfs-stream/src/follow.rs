//! A reader of this process, as a [`StreamReader`].

use std::task::{Context, Poll};

use pfs_proto::Event;

use crate::{ReadFailure, Reader, StreamReader};

impl Reader {
    /// The next event, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_event(&mut self) -> Result<Option<Event>, ReadFailure> {
        match self.batch.next() {
            Some(chunk) => Ok(Some(Event::Chunk(chunk))),
            None => self.try_batch(),
        }
    }
}

impl StreamReader for Reader {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadFailure>> {
        if let Some(chunk) = self.batch.next() {
            return Poll::Ready(Ok(Event::Chunk(chunk)));
        }
        self.poll_batch(cx)
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
