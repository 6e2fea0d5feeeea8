//! Appending from a file descriptor.

use std::{future::poll_fn, io, os::fd::AsFd};

use pfs_stream::WriteError;

use super::{QUEUE_BYTES, Writer};
use crate::shm::Lease;

/// The most bytes read at once from a file without a lease.
const READ_BYTES: usize = 128 * 1024;

impl Writer {
    /// Reads once from a file and pushes the bytes as one chunk of at most `most` bytes. Returns 0
    /// at the end of the file. Blocks if the file blocks.
    ///
    /// Under a lease, the system reads straight into the stream's ring buffer, without a copy. The
    /// read reserves `most` bytes first, and readers lose the history in that space at once. So
    /// wait until the file is readable before you call this method.
    ///
    /// # Errors
    ///
    /// The outer error if the writer has failed; the inner error if reading the file failed.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, has read nothing, or has pushed the bytes that it read.
    pub async fn append_from(
        &mut self,
        file: impl AsFd,
        most: usize,
    ) -> Result<io::Result<usize>, WriteError> {
        self.check(&[])?;
        let most = most.min(usize::try_from(self.max_chunk).unwrap_or(usize::MAX));
        loop {
            if let Some(read) =
                poll_fn(|cx| self.poll_push_leased_from(cx, file.as_fd(), most)).await?
            {
                if let Lease::Held(held) = &self.lease
                    && held.should_publish()
                {
                    self.send().await?;
                }
                return Ok(read);
            }
            if self.queue.len() < QUEUE_BYTES {
                break;
            }
            // Send before reading: bytes that were read would be lost if this future were dropped
            // while it waits for room in the queue.
            self.send().await?;
        }
        let mut bytes = vec![0; most.min(READ_BYTES)];
        match rustix::io::read(file, &mut bytes) {
            Ok(len) => {
                self.push(bytes.get(..len).unwrap_or_default()).await?;
                Ok(Ok(len))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}
