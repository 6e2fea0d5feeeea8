//! A writer of this process, as a [`StreamWriter`].

use bytes::Bytes;

use crate::{StreamWriter, WriteFailure, Writer};

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

    async fn append_bytes(&mut self, chunk: Bytes) -> Result<(), WriteFailure> {
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
}
