//! Writing what a ring holds to a file from where it is, without a copy of one's own.
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
    #[error("the file takes no more")]
    File(#[source] io::Error),
    /// The stream did not wait for this reader, as it should have.
    #[error(
        "bytes {from}..{to} were overwritten while they were written to a file, which may have got others"
    )]
    Overtaken {
        /// The offset of the first byte that may be wrong.
        from: u64,
        /// The offset after the last one.
        to: u64,
    },
}

impl RingReader {
    /// Writes the chunks that come next to a file from where they are, as long as that takes:
    /// `most` bytes at most, about, but one chunk at least. `None`, and nothing was written, if
    /// they are less than `least` bytes, if it is something else that comes next, and if no
    /// writer waits for this reader.
    ///
    /// Where writers wait, nothing is overwritten before the reader has passed it, and it passes
    /// chunks when they are written. That is not left to trust: after each write comes the
    /// check that follows each copy. What a file has cannot be taken back, so that it can only
    /// be told what may be wrong with it.
    pub(crate) fn write_to(
        &mut self,
        file: BorrowedFd<'_>,
        least: usize,
        most: usize,
    ) -> Result<Option<Read>, WriteToError> {
        // All that is no chunk is for `try_read` to tell.
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
            // What was written before this was found to be right then.
            fence(Acquire);
            if self.ring.load(layout::TAIL_SEQ, Relaxed) > self.seq && at > self.offset {
                return Err(WriteToError::Overtaken { from, to: at });
            }
            match written {
                Ok(0) => return Err(WriteToError::File(ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // Others who have the file may have made it non-blocking.
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

    /// The end of the chunks that come next, as many as may be read at once.
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
