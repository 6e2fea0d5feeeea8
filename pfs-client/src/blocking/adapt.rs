//! Standard library traits for blocking readers and writers.

use std::{
    fmt,
    io::{self, Write},
};

use bytes::Bytes;
use pfs_stream::{BlockingReader, ByteIter, Event, ReadError, formatted};

use super::{Reader, Writer};

impl BlockingReader for Reader {
    fn next_blocking(&mut self) -> Result<Event, ReadError> {
        self.next()
    }

    fn position(&self) -> u64 {
        Self::position(self)
    }
}

/// `for chunk in reader`: the iterator of [`BlockingReader::into_byte_iter`], which also implements
/// `std::io::Read`.
impl IntoIterator for Reader {
    type Item = io::Result<Bytes>;
    type IntoIter = ByteIter<Self>;

    fn into_iter(self) -> ByteIter<Self> {
        self.into_byte_iter()
    }
}

/// Each `write` appends one chunk of at most [`max_chunk`](Writer::max_chunk) bytes and sends it at
/// once. Each `write!` and `writeln!` appends one chunk. `flush` waits until all chunks are in the
/// stream. Errors are [`WriteError`](crate::WriteError)s;
/// [`WriteError::from_io_error`](crate::WriteError::from_io_error) recovers them.
/// [Finish](Writer::finish) the writer like any other.
impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.max_chunk()).unwrap_or(usize::MAX);
        let chunk = bytes.get(..most).unwrap_or(bytes);
        self.append(chunk)?;
        Ok(chunk.len())
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(formatted(text)?.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(Self::flush(self)?)
    }
}
