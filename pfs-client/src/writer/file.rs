//! Appending what a file gives.

use std::{future::poll_fn, io, os::fd::AsFd};

use pfs_stream::WriteError;

use super::{QUEUE_BYTES, Writer};
use crate::shm::Lease;

/// The most that is read at once from a file without a lease, in bytes.
const READ_BYTES: usize = 128 * 1024;

impl Writer {
    /// Reads once from a file, as one chunk of at most `most` bytes that is pushed; 0 at the file's
    /// end. Blocks as the file does.
    ///
    /// Under a lease the bytes go from the system straight into the stream's ring. Readers lose the
    /// history that `most` bytes would overwrite before the file has given anything, so wait
    /// until it is readable.
    ///
    /// # Errors
    ///
    /// The outer error when the writer cannot go on; the inner one is the file's.
    ///
    /// # Cancel safety
    ///
    /// Given up, it has read nothing, or what it has read is pushed.
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
            // Before it reads, because what is read cannot be left for later.
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
