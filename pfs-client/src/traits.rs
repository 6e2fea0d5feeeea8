//! Readers and writers as [`StreamReader`] and [`StreamWriter`]: what is written for these serves streams in this process
//! and with a daemon alike.

use std::sync::Arc;
use std::task::{Context, Poll};

use pfs_stream::{Event, ReadFailure, StreamReader, StreamWriter, WriteFailure};

use crate::{ReadError, Reader, WriteError, Writer};

impl StreamReader for Reader {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadFailure>> {
        self.poll_next(cx).map_err(ReadFailure::from)
    }

    fn position(&self) -> u64 {
        self.position()
    }

    fn lost_bytes(&self) -> u64 {
        self.lost_bytes()
    }

    fn lost_chunks(&self) -> u64 {
        self.lost_chunks()
    }
}

impl StreamWriter for Writer {
    fn max_chunk(&self) -> u64 {
        self.max_chunk()
    }

    fn readers(&self) -> u32 {
        self.readers()
    }

    async fn append(&mut self, chunk: &[u8]) -> Result<(), WriteFailure> {
        Ok(Self::append(self, chunk).await?)
    }

    async fn flush(&mut self) -> Result<(), WriteFailure> {
        Ok(Self::flush(self).await?)
    }

    async fn complete(self) -> Result<u64, WriteFailure> {
        let close = false;
        Ok(self.finish(close).await?)
    }

    async fn close(self) -> Result<u64, WriteFailure> {
        let close = true;
        Ok(self.finish(close).await?)
    }

    async fn close_failed(self) -> Result<u64, WriteFailure> {
        let close = true;
        Ok(self.fail(close).await?)
    }
}

impl From<ReadError> for ReadFailure {
    /// What the daemon said is kept, as the cause, where the failure has one.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Removed { .. } => Self::Removed,
            ReadError::TooSlow { .. } => Self::TooSlow,
            ReadError::DaemonGone(cause) => Self::DaemonGone(Arc::new(cause)),
            error => Self::Other(Arc::new(error)),
        }
    }
}

impl From<WriteError> for WriteFailure {
    /// As for readers.
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::TooLarge { size, max } => Self::TooLarge { size, max },
            WriteError::Closed { .. } => Self::Closed,
            WriteError::Removed { .. } => Self::Removed,
            WriteError::DaemonGone(cause) => Self::DaemonGone(Arc::new(cause)),
            error => Self::Other(Arc::new(error)),
        }
    }
}
