//! Zero-copy output: writes chunks to a file straight from the ring.
//!
//! Gain: 15 % in pipelines to 4 consumers, docs/bench/optimisations.md

use std::{
    io::{self, ErrorKind},
    os::fd::BorrowedFd,
};

use pfs_proto::SlowPolicy;
use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;

use super::{
    RingReader, layout,
    reader::{Look, RUN},
};
use crate::{
    read::{Position, Read},
    sync::{
        Ordering::{Acquire, Relaxed},
        fence,
    },
};

/// Why chunks were not written to a file, or not all of them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteToError {
    /// The file takes no more.
    #[error("cannot write to the file")]
    File(#[source] io::Error),
    /// The stream did not wait for this reader, although it should have.
    #[error(
        "bytes {from}..{to} were overwritten during the write to the file; the file may contain wrong bytes"
    )]
    Overtaken {
        /// The offset of the first byte that may be wrong.
        from: u64,
        /// The offset after the last byte that may be wrong.
        to: u64,
    },
}

impl RingReader {
    /// Writes the next chunks to a file straight from the ring, and waits while the file takes no
    /// more. Writes about `most` bytes at most, but at least one chunk. Returns `None`, and writes
    /// nothing, if there are fewer than `least` bytes, if something other than chunks comes next,
    /// or if writers do not wait for this reader.
    ///
    /// Writers that wait for this reader overwrite nothing that the reader has not passed, and the
    /// reader passes chunks only after they are written to the file. The reader does not trust the
    /// writers: each write is followed by the same check that follows each copy. What was written
    /// to a file cannot be taken back, so a failed check can only report which bytes may be wrong.
    pub(crate) fn write_to(
        &mut self,
        file: BorrowedFd<'_>,
        least: usize,
        most: usize,
    ) -> Result<Option<Read>, WriteToError> {
        // `try_read` reports everything that is not a chunk.
        if self.policy != SlowPolicy::Block
            || self.ring.status().removed()
            || self.missing.is_some()
        {
            return Ok(None);
        }
        let Ok(Look::Chunks(head_seq)) = self.look() else { return Ok(None) };
        let to = self.end_of_run(head_seq, most);
        if to.seq == self.seq || to.offset - self.offset < least as u64 {
            return Ok(None);
        }
        let mut at = self.offset;
        while at < to.offset {
            let runs = self.ring.runs(at, (to.offset - at) as usize);
            let data = self.ring.layout.data().start * layout::WORD;
            let written =
                self.ring.memory().write_to(file, runs.map(|(place, len)| (data + place, len)));
            let from = at;
            at += *written.as_ref().unwrap_or(&0) as u64;
            // Earlier writes were already found to be right.
            fence(Acquire);
            if self.ring.load(layout::TAIL_SEQ, Relaxed) > self.seq && at > self.offset {
                return Err(WriteToError::Overtaken { from, to: at });
            }
            match written {
                Ok(0) => return Err(WriteToError::File(ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // Another process that has the file may have made it non-blocking.
                    ErrorKind::WouldBlock => await_room(file).map_err(WriteToError::File)?,
                    _ => return Err(WriteToError::File(error)),
                },
            }
        }
        let read = Read::Data {
            chunks: (to.seq - self.seq) as usize,
            bytes: (to.offset - self.offset) as usize,
        };
        self.advance(to);
        Ok(Some(read))
    }

    /// The end of the run of next chunks that may be read at once.
    fn end_of_run(&self, head_seq: u64, most: usize) -> Position {
        let mut at = self.position();
        let mut ends = [0; RUN];
        loop {
            let count = self.ends(at, head_seq, most, &mut ends);
            let Some(&len) = ends[..count].last() else { return at };
            at = Position { seq: at.seq + count as u64, offset: at.offset + len as u64 };
        }
    }
}

fn await_room(file: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
