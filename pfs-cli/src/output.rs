//! Standard output: unchanged bytes, in large writes.

use std::{
    io::{self, Write},
    os::fd::BorrowedFd,
};

use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;

use crate::{descriptors, pipe};

/// How many bytes are collected before a write.
const WRITE_BATCH_BYTES: usize = 256 * 1024;
/// A piece of at least this size is written in place, without a copy into the batch.
pub(crate) const LARGE_WRITE_BYTES: usize = 32 * 1024;

/// Error of standard output.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    /// The reader of standard output is gone (EPIPE). Not a failure of `pfs`, which then
    /// ends quietly.
    #[error("standard output is closed")]
    Closed,
    /// Writing failed for another reason.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// Buffered writer: collects small pieces, and writes large ones in place.
#[derive(Debug)]
pub(crate) struct Output<W: Write = Stdout> {
    inner: W,
    batch: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Writes nothing before the batch is full or flushed.
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, batch: Vec::new() }
    }

    /// Takes a piece. Blocks on the reader of the output when the batch is full.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), OutputError> {
        if self.batch.len() + piece.len() > WRITE_BATCH_BYTES || piece.len() >= LARGE_WRITE_BYTES {
            self.flush()?;
        }
        if piece.len() >= LARGE_WRITE_BYTES {
            self.inner.write_all(piece)?;
        } else {
            self.batch.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Returns true if everything that was taken is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes everything that was taken.
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        let written = self.inner.write_all(&self.batch);
        self.batch.clear();
        Ok(written?)
    }
}

/// File descriptor 1, unbuffered.
///
/// If another process has made the descriptor non-blocking, a write waits with poll(2). The flag
/// stays as it is, because the processes share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stdout(BorrowedFd<'static>);

impl Stdout {
    /// Opens standard output.
    ///
    /// # Errors
    ///
    /// Standard output is closed, or open only for reading.
    pub(crate) fn open() -> Result<Self, OutputError> {
        Ok(Self(descriptors::stdout()?))
    }

    /// Enlarges the pipe, if standard output is a pipe.
    pub(crate) fn enlarged(self) -> Self {
        pipe::enlarge(self.0);
        self
    }

    /// Its file descriptor.
    pub(crate) fn descriptor(self) -> BorrowedFd<'static> {
        self.0
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, bytes) {
                Err(rustix::io::Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records each write separately.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn small_pieces_become_one_write() {
        let mut output = Output::new(Writes::default());
        for piece in [&b"one "[..], b"two ", b"three"] {
            output.write(piece).unwrap();
        }
        assert!(output.inner.0.is_empty());
        output.flush().unwrap();
        assert_eq!(output.inner.0, [b"one two three"]);
    }

    #[test]
    fn a_large_piece_is_written_after_earlier_pieces() {
        let mut output = Output::new(Writes::default());
        let large = vec![7; LARGE_WRITE_BYTES];
        output.write(b"before").unwrap();
        output.write(&large).unwrap();
        output.write(b"after").unwrap();
        output.flush().unwrap();
        assert_eq!(output.inner.0, [b"before".to_vec(), large, b"after".to_vec()]);
    }

    #[test]
    fn a_full_batch_is_written_without_a_flush() {
        let mut output = Output::new(Writes::default());
        for _ in 0..=WRITE_BATCH_BYTES {
            output.write(b"x").unwrap();
        }
        assert_eq!(output.inner.0, [vec![b'x'; WRITE_BATCH_BYTES]]);
    }

    #[test]
    fn a_closed_pipe_is_distinguished_from_a_failure() {
        let mut closed = Output::new(Broken(io::ErrorKind::BrokenPipe));
        assert!(matches!(closed.write(&vec![0; LARGE_WRITE_BYTES]), Err(OutputError::Closed)));
        let mut full = Output::new(Broken(io::ErrorKind::StorageFull));
        assert!(matches!(full.write(&vec![0; LARGE_WRITE_BYTES]), Err(OutputError::Failed(_))));
    }
}
