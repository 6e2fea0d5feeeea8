//! Zero-copy output: writes chunks from the ring buffer straight to a file.

use std::{io, os::fd::AsFd};

use super::Reader;
#[cfg(target_os = "linux")]
use super::{Source, State};
use crate::ReadError;

impl Reader {
    /// Writes chunks that have already arrived to a file, straight from the memory shared with the
    /// daemon: about `most` bytes at most, but at least one chunk. Returns the number of
    /// bytes written.
    ///
    /// Returns 0 and writes nothing if fewer than `least` bytes are available, if the next event is
    /// not a chunk, if the reader [joins](pfs_proto::Join) media, or if the reader is not an
    /// [shm reader](Self::is_shm) with the policy `block`. Then use
    /// [`try_next_batch`](Self::try_next_batch).
    ///
    /// Blocks if the file blocks. Meanwhile, writers wait for the space of the unwritten bytes.
    ///
    /// # Errors
    ///
    /// The outer error if the reader has failed, for example because bytes were overwritten
    /// meanwhile. The inner error if writing the file failed; the file may then hold some bytes
    /// after the reader's [`position`](Self::position).
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "there is no ring to write from")
    )]
    pub fn try_write_to(
        &mut self,
        file: impl AsFd,
        least: usize,
        most: usize,
    ) -> Result<io::Result<usize>, ReadError> {
        if self.join.is_some() {
            return Ok(Ok(0));
        }
        #[cfg(target_os = "linux")]
        if let (State::Reading, None, Source::Ring(ring)) =
            (&self.state, &self.next_event, &mut self.source)
        {
            let written = match ring.try_write_to(file.as_fd(), least, most) {
                Ok(Ok(written)) => written,
                Ok(Err(error)) => return Ok(Err(error)),
                Err(error) => return Err(self.fail(error)),
            };
            self.tell_room();
            self.advance(written).map_err(|error| self.fail(error.into()))?;
            return Ok(Ok(written));
        }
        Ok(Ok(0))
    }
}
