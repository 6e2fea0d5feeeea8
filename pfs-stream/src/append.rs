//! `StreamWriter` and `io::Write` for the writer of this process.

use std::{fmt, io};

use crate::{Chunk, Finish, StreamWriter, WriteError, Writer};

/// Each write is one chunk, of at most [`max_chunk`](Writer::max_chunk) bytes, and wakes the
/// readers. A write blocks the thread while a `block` reader needs the room. `flush` has nothing to
/// do. One `write!` or `writeln!` is one chunk.
///
/// A writer that is dropped without [`finish`](Writer::finish) has died, whatever was written; so
/// has a writer whose thread panics.
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(usize::try_from(self.max_chunk()).unwrap_or(usize::MAX));
        let chunk = bytes.split_at(len).0;
        self.append_blocking(chunk)?;
        Ok(len)
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        // The default implementation writes each piece between two values separately, which would
        // make each piece a chunk.
        self.write_all(formatted(text)?.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wake_readers();
        Ok(())
    }
}

/// Formats the text in one piece.
///
/// # Errors
///
/// A value in the text cannot be formatted.
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
