//! A writer of this process, as a [`StreamWriter`] and as an [`io::Write`].

use std::{fmt, io};

use crate::{Chunk, Finish, StreamWriter, WriteError, Writer};

/// A write is one chunk, of at most [`max_chunk`](Writer::max_chunk) bytes, and wakes the readers.
/// It blocks the thread while a `block` reader needs the room. There is nothing left to flush. What
/// `write!` and `writeln!` write at once is one chunk.
///
/// A writer that is dropped without [`finish`](Writer::finish) has died, whatever was written; so
/// has one whose thread panics.
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(usize::try_from(self.max_chunk()).unwrap_or(usize::MAX));
        let chunk = bytes.split_at(len).0;
        self.append_blocking(chunk)?;
        Ok(len)
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        // The default makes a write, and so a chunk, of each piece between two values.
        self.write_all(formatted(text)?.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wake_readers();
        Ok(())
    }
}

/// This text as it is to be written, in one piece.
///
/// # Errors
///
/// When a value in it cannot be formatted.
pub fn formatted(text: fmt::Arguments<'_>) -> io::Result<String> {
    let mut formatted = String::new();
    let done = fmt::Write::write_fmt(&mut formatted, text);
    done.map_err(io::Error::other).map(|()| formatted)
}

impl StreamWriter for Writer {
    fn max_chunk(&self) -> u64 {
        Self::max_chunk(self)
    }

    fn readers(&self) -> u32 {
        u32::try_from(Self::readers(self)).unwrap_or(u32::MAX)
    }

    async fn append(&mut self, chunk: impl Chunk) -> Result<(), WriteError> {
        Self::append(self, chunk).await
    }

    async fn flush(&mut self) -> Result<(), WriteError> {
        self.wake_readers();
        Ok(())
    }

    async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        Ok(Self::finish(self, finish))
    }
}
