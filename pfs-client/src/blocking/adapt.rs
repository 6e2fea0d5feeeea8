//! Readers and writers for threads under the standard library's traits.

use std::io::{self, Write};

use bytes::Bytes;
use pfs_stream::{BlockingReader, ByteIter, Event, ReadFailure, WriteFailure};

use super::{Reader, Writer};

impl BlockingReader for Reader {
    fn event_blocking(&mut self) -> Result<Event, ReadFailure> {
        Ok(self.next_event()?)
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

/// A write is one chunk, of at most [`max_chunk`](Writer::max_chunk) bytes, and is sent at once; `flush` waits until
/// everything is in the stream. Errors are [`WriteFailure`]s. Like any writer it is to be [finished](Writer::finish).
impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.max_chunk()).unwrap_or(usize::MAX);
        let chunk = bytes.get(..most).unwrap_or(bytes);
        self.append(chunk).map_err(WriteFailure::from)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(Self::flush(self).map_err(WriteFailure::from)?)
    }
}
