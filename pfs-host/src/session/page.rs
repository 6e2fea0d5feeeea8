//! The *page* session: reads one part of a stream, of bounded size, at once. For protocols whose
//! response states the end of the part before its first byte, in the status or a header.

use std::time::Duration;

use pfs_proto::End;
use pfs_stream::{Read, ReadError, Reader, Sink};
use thiserror::Error;
use tokio::time::sleep;

use super::{follow::Gap, reading_log::ReadingLog};
use crate::{Cutoff, Failure};

/// A page that is being read. Dropping it detaches the reader.
#[derive(Debug)]
pub struct Page<S> {
    reader: Reader,
    sink: S,
    most: usize,
    start: u64,
    may_start_later: bool,
    cutoff: Cutoff,
    log: ReadingLog,
}

/// Where a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// At the size limit.
    Full,
    /// At head.
    Head,
    /// At the end of a closed stream.
    Closed,
    /// At the end of a stream that was closed as failed.
    Failed,
}

/// Why there is no page.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum PageError {
    /// The ring no longer holds the start.
    #[error("the ring no longer holds the start of the page")]
    Dropped,
    /// The stream was removed, or the client is cut off.
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl<S: Sink> Page<S> {
    pub(crate) fn new(
        cutoff: Cutoff,
        log: ReadingLog,
        reader: Reader,
        sink: S,
        most: usize,
    ) -> Self {
        Self { start: reader.start(), reader, sink, most, may_start_later: false, cutoff, log }
    }

    /// Lets the page start at tail if the ring no longer holds its start.
    #[must_use]
    pub fn or_later(mut self) -> Self {
        self.may_start_later = true;
        self
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&mut self) -> bool {
        self.sink.buffer().is_empty()
    }

    /// Reads the data in the ring, up to the page's size.
    ///
    /// # Errors
    ///
    /// [`PageError`].
    pub fn fill(&mut self) -> Result<Edge, PageError> {
        loop {
            let room = self.most.saturating_sub(self.sink.buffer().len());
            if room == 0 {
                return Ok(Edge::Full);
            }
            let read = self.reader.try_read(&mut self.sink, room);
            let Some(read) = read.map_err(|error| self.failed(error))? else {
                return Ok(Edge::Head);
            };
            if let Some(edge) = self.take_in(read)? {
                return Ok(edge);
            }
        }
    }

    /// Waits for the next chunk, at most for `limit`, and then reads the data in the ring. Returns
    /// [`Edge::Head`] if no chunk came.
    ///
    /// # Errors
    ///
    /// [`PageError`].
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, nothing was read.
    pub async fn wait(&mut self, limit: Duration) -> Result<Edge, PageError> {
        let read = tokio::select! {
            biased;
            failure = self.cutoff.reached() => return Err(self.fails(failure)),
            read = self.reader.read(&mut self.sink, self.most) => read,
            () = sleep(limit) => return Ok(Edge::Head),
        };
        let read = read.map_err(|error| self.failed(error))?;
        match self.take_in(read)? {
            Some(edge) => Ok(edge),
            None => self.fill(),
        }
    }

    /// Ends the page. Returns its first offset, and the sink with its chunks.
    pub fn finish(mut self) -> (u64, S)
    where
        S: Default,
    {
        self.log.is_answered();
        (self.start, std::mem::take(&mut self.sink))
    }

    fn take_in(&mut self, read: Read) -> Result<Option<Edge>, PageError> {
        match read {
            Read::Data { .. } => Ok(None),
            Read::End(end) => {
                self.log.ends(end);
                Ok(Some(match end {
                    End::Closed => Edge::Closed,
                    End::Failed => Edge::Failed,
                    End::CaughtUp | End::WritersGone | End::WriterDied => Edge::Head,
                }))
            }
            // The page ends before the gap, and the next page is refused.
            Read::Gap { .. } if !self.is_empty() => Ok(Some(Edge::Full)),
            Read::Gap { from, to, chunks } => {
                self.log.gap(Gap { from, to, chunks });
                if !self.may_start_later {
                    return Err(PageError::Dropped);
                }
                self.start = to;
                Ok(None)
            }
        }
    }

    fn failed(&mut self, error: ReadError) -> PageError {
        let failure = Failure::reading(self.log.path(), error);
        self.fails(failure)
    }

    fn fails(&mut self, failure: Failure) -> PageError {
        self.log.fails(&failure);
        PageError::Failed(failure)
    }
}

impl<S> Drop for Page<S> {
    fn drop(&mut self) {
        self.log.left(&self.reader);
    }
}
