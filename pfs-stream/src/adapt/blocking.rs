//! Blocking adapters of a reader: iterators, and `std::io::Read`.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use pfs_proto::Event;

use super::{ByteItem, is_last, take};
use crate::{ReadError, Reader};

/// Follows a stream in a thread that blocks, in this process or with a daemon.
pub trait BlockingReader {
    /// Returns the next event. Blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. Calls after a [final](ReadError::is_final) error return that error again.
    fn next_blocking(&mut self) -> Result<Event, ReadError>;

    /// The offset after the last byte or gap that was returned.
    fn position(&self) -> u64;

    /// Converts the reader to a blocking iterator over its bytes, chunk by chunk.
    fn into_byte_iter(self) -> ByteIter<Self>
    where
        Self: Sized,
    {
        ByteIter { reader: self, rest: Bytes::new(), over: false }
    }

    /// Converts the reader to a blocking iterator over its events. The last item is the end or the
    /// final error.
    fn into_event_iter(self) -> EventIter<Self>
    where
        Self: Sized,
    {
        EventIter { reader: self, over: false }
    }
}

impl BlockingReader for Reader {
    fn next_blocking(&mut self) -> Result<Event, ReadError> {
        Self::next_blocking(self)
    }

    fn position(&self) -> u64 {
        Self::position(self)
    }
}

/// Supports `for chunk in reader`. Same iterator as [`BlockingReader::into_byte_iter`].
impl IntoIterator for Reader {
    type Item = io::Result<Bytes>;
    type IntoIter = ByteIter<Self>;

    fn into_iter(self) -> ByteIter<Self> {
        self.into_byte_iter()
    }
}

/// Blocking iterator over the bytes of a stream, chunk by chunk; also a [`Read`] and a [`BufRead`].
///
/// Errors are those of [`ByteStream`](crate::ByteStream): a gap is a [`LostData`](crate::LostData)
/// error after which reading continues, and every failure is a [`ReadError`]. Only the end of the
/// stream ends the iterator without an error. A reader that [joins](pfs_proto::Join) media yields
/// the header before the bytes to which it applies.
///
/// ```
/// # use pfs_stream::*;
/// use std::io::Write;
///
/// let stream = Stream::new("log", StreamConfig::default())?;
/// let reader = stream.reader(ReadOptions::default())?;
/// let mut writer = stream.writer()?;
/// std::thread::spawn(move || {
///     writer.write_all(b"one").expect("the stream is open");
///     writer.write_all(b"two").expect("the stream is open");
///     writer.finish(Finish::Close);
/// });
/// let chunks = reader.into_iter().collect::<std::io::Result<Vec<_>>>()?;
/// assert_eq!(chunks, ["one", "two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteIter<R> {
    reader: R,
    rest: Bytes,
    over: bool,
}

impl<R> ByteIter<R> {
    /// The underlying reader, for its stats.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the underlying reader, and the rest of a chunk that was returned in part.
    pub fn into_parts(self) -> (R, Bytes) {
        (self.reader, self.rest)
    }
}

impl<R: BlockingReader> Iterator for ByteIter<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if !self.rest.is_empty() {
            return Some(Ok(std::mem::take(&mut self.rest)));
        }
        while !self.over {
            match ByteItem::from_event(self.reader.next_blocking()) {
                ByteItem::Chunk(bytes) | ByteItem::Header(bytes) => return Some(Ok(bytes)),
                ByteItem::Hitch(error) => return Some(Err(error)),
                ByteItem::Failed(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
                ByteItem::Over => self.over = true,
                ByteItem::Nothing => {}
            }
        }
        None
    }
}

impl<R: BlockingReader> BufRead for ByteIter<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty()
            && let Some(chunk) = self.next()
        {
            self.rest = chunk?;
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest.advance(amount.min(self.rest.len()));
    }
}

impl<R: BlockingReader> Read for ByteIter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.fill_buf()?;
        let bytes = take(&mut self.rest, buffer.len());
        for (to, from) in buffer.iter_mut().zip(&bytes) {
            *to = *from;
        }
        Ok(bytes.len())
    }
}

/// Blocking iterator over the events of a reader. The last item is the end or the final error.
#[derive(Debug)]
pub struct EventIter<R> {
    reader: R,
    over: bool,
}

impl<R> EventIter<R> {
    /// The underlying reader, for its stats.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the underlying reader.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: BlockingReader> Iterator for EventIter<R> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.reader.next_blocking();
        self.over = is_last(&event);
        Some(event)
    }
}
