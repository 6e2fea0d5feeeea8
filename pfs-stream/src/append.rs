//! A writer of this process, as a [`StreamWriter`] and as an [`io::Write`].

use std::io;

use bytes::Bytes;

use crate::{StreamWriter, WriteFailure, Writer};

/// A write is one chunk, of at most [`max_chunk`](Writer::max_chunk) bytes, and wakes the readers. It blocks the thread while a
/// `block` reader needs the room. There is nothing left to flush.
///
/// A writer that is dropped without [`finish`](Writer::finish) or [`finish_and_close`](Writer::finish_and_close) has died,
/// whatever was written; so has one whose thread panics.
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(usize::try_from(self.max_chunk()).unwrap_or(usize::MAX));
        let chunk = bytes.split_at(len).0;
        self.append_blocking(chunk).map_err(WriteFailure::from)?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wake();
        Ok(())
    }
}

impl StreamWriter for Writer {
    fn max_chunk(&self) -> u64 {
        Self::max_chunk(self)
    }

    fn readers(&self) -> u32 {
        u32::try_from(Self::readers(self)).unwrap_or(u32::MAX)
    }

    async fn append(&mut self, chunk: &[u8]) -> Result<(), WriteFailure> {
        Self::append(self, chunk).await?;
        Ok(())
    }

    async fn append_bytes(&mut self, chunk: &Bytes) -> Result<(), WriteFailure> {
        Self::append_bytes(self, chunk).await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), WriteFailure> {
        self.wake();
        Ok(())
    }

    async fn complete(self) -> Result<u64, WriteFailure> {
        let offset = self.offset;
        self.finish();
        Ok(offset)
    }

    async fn close(self) -> Result<u64, WriteFailure> {
        let offset = self.offset;
        self.finish_and_close();
        Ok(offset)
    }

    async fn close_failed(self) -> Result<u64, WriteFailure> {
        let offset = self.offset;
        self.fail_and_close();
        Ok(offset)
    }
}
