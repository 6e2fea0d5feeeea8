//! Writing chunks to a file from where they are.

use std::{io, os::fd::AsFd};

use super::Reader;
#[cfg(target_os = "linux")]
use super::{Source, State};
use crate::ReadError;

impl Reader {
    /// Writes chunks that are here already to a file, straight from the memory that is shared with
    /// the daemon: `most` bytes at most, about, but one chunk at least. Returns how many bytes
    /// that were. It is 0, and nothing was written, if they are less than `least` bytes, if it
    /// is something else that comes next, and unless the reader is an [shm reader](Self::is_shm)
    /// and its policy is `block`: then [`try_next_batch`](Self::try_next_batch) has what there
    /// is.
    ///
    /// Blocks as the file does, and writers wait for what is not written yet.
    ///
    /// # Errors
    ///
    /// The outer error when the reader cannot go on, among others because bytes were overwritten
    /// meanwhile. The inner one is the file's; it may have got a part of what the reader's
    /// [`position`](Self::position) has not passed.
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
