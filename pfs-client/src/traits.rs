//! [`StreamReader`] and [`StreamWriter`] for the client's readers and writers. Code that is generic
//! over these traits works with a daemon's streams and with streams in this process.

use std::task::{Context, Poll};

use pfs_stream::{Chunk, Event, Finish, ReadError, StreamReader, StreamWriter, WriteError};

use crate::{Reader, Writer};

impl StreamReader for Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        self.poll_next(cx)
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

    async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        Self::append(self, chunk).await
    }

    async fn flush(&mut self) -> Result<(), WriteError> {
        Self::flush(self).await
    }

    async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        Self::finish(self, finish).await
    }
}
