//! Readers and writers for threads under the standard library's traits.

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

/// `for chunk in reader`: as [`BlockingReader::into_byte_iter`], which is an `std::io::Read` too.
impl IntoIterator for Reader {
    type Item = io::Result<Bytes>;
    type IntoIter = ByteIter<Self>;

    fn into_iter(self) -> ByteIter<Self> {
        self.into_byte_iter()
    }
}

/// A write is one chunk, of at most [`max_chunk`](Writer::max_chunk) bytes, and is sent at once;
/// `flush` waits until everything is in the stream. What `write!` and `writeln!` write at once is
/// one chunk. Errors are [`WriteError`](crate::WriteError)s, found again by
/// [`WriteError::from_io_error`](crate::WriteError::from_io_error). Like any writer it is to be
/// [finished](Writer::finish).
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
