//! Byte stream adapter of a reader, for async code.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::ByteItem;
use crate::StreamReader;

/// The bytes of a stream, chunk by chunk: a `futures::Stream` (feature `futures`), an `AsyncRead`
/// (feature `tokio`), and [`next`](Self::next) without either.
///
/// Loss and failure are never silent. A gap is a [`LostData`](crate::LostData) error, and reading
/// continues after it. A failure is a [`ReadError`](crate::ReadError), and nothing follows it: the
/// stream was removed or closed as failed, the reader was too slow, the writers are gone and one of
/// them did not finish, or the daemon is gone. Only the end of the stream ends the byte stream
/// without an error.
///
/// A reader that [joins](pfs_proto::Join) media yields the header before the bytes to which it
/// applies.
///
/// Made by [`StreamReader::into_byte_stream`]. All three interfaces are cancel safe. An `AsyncRead`
/// returns as much of a chunk as was asked for and keeps the rest; the next item of a `Stream` or
/// of [`next`](Self::next) is then that rest.
///
/// ```
/// # use pfs_stream::*;
/// # pollster::block_on(async {
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut writer = stream.writer()?;
/// let mut bytes = stream.reader(ReadOptions::default())?.into_byte_stream();
/// writer.append(b"hello").await?;
/// writer.finish(Finish::Close);
/// while let Some(chunk) = bytes.next().await {
///     match chunk {
///         Ok(chunk) => println!("{} bytes", chunk.len()),
///         Err(error) if LostData::from_io_error(&error).is_some() => eprintln!("{error}"),
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteStream<R> {
    reader: R,
    rest: Bytes,
    /// Whether `rest` is what is left of a header, which is not counted in any offset.
    is_header: bool,
    over: bool,
}

impl<R: StreamReader> ByteStream<R> {
    /// Creates a byte stream from this reader.
    pub fn new(reader: R) -> Self {
        Self { reader, rest: Bytes::new(), is_header: false, over: false }
    }

    /// Waits for the next chunk; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`LostData`](crate::LostData), after which reading continues, and
    /// [`ReadError`](crate::ReadError).
    ///
    /// # Cancel safety
    ///
    /// Bytes are taken only if they were returned.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Polls for the next chunk, for hand-written futures. Otherwise like [`next`](Self::next).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
        }
        while !self.over {
            match ByteItem::from_event(ready!(self.reader.poll_next(cx))) {
                ByteItem::Chunk(chunk) => {
                    self.is_header = false;
                    return Poll::Ready(Some(Ok(chunk)));
                }
                ByteItem::Header(header) => {
                    self.is_header = true;
                    return Poll::Ready(Some(Ok(header)));
                }
                ByteItem::Hitch(error) => return Poll::Ready(Some(Err(error))),
                ByteItem::Failed(error) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                ByteItem::Over => self.over = true,
                ByteItem::Nothing => {}
            }
        }
        Poll::Ready(None)
    }

    /// The offset after the last byte that was returned.
    pub fn position(&self) -> u64 {
        let rest = if self.is_header { 0 } else { self.rest.len() };
        self.reader.position().saturating_sub(rest as u64)
    }

    /// Bytes in all gaps so far.
    pub fn lost_bytes(&self) -> u64 {
        self.reader.lost_bytes()
    }

    /// Chunks in all gaps so far; a gap whose chunk count is unknown adds nothing.
    pub fn lost_chunks(&self) -> u64 {
        self.reader.lost_chunks()
    }

    /// Returns the underlying reader, and the rest of a chunk that was returned in part.
    pub fn into_parts(self) -> (R, Bytes) {
        (self.reader, self.rest)
    }
}

#[cfg(feature = "futures")]
impl<R: StreamReader + Unpin> futures_core::Stream for ByteStream<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.get_mut().poll_chunk(cx)
    }
}

#[cfg(feature = "futures")]
impl<R: StreamReader + Unpin> futures_core::FusedStream for ByteStream<R> {
    fn is_terminated(&self) -> bool {
        self.over && self.rest.is_empty()
    }
}

#[cfg(feature = "tokio")]
mod read {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use bytes::Buf;
    use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

    use super::ByteStream;
    use crate::{StreamReader, adapt::take};

    impl<R: StreamReader + Unpin> AsyncBufRead for ByteStream<R> {
        fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let this = self.get_mut();
            if this.rest.is_empty()
                && let Some(chunk) = ready!(this.poll_chunk(cx))
            {
                this.rest = chunk?;
            }
            Poll::Ready(Ok(&this.rest))
        }

        fn consume(self: Pin<&mut Self>, amount: usize) {
            let this = self.get_mut();
            this.rest.advance(amount.min(this.rest.len()));
        }
    }

    impl<R: StreamReader + Unpin> AsyncRead for ByteStream<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if buffer.remaining() > 0 {
                ready!(self.as_mut().poll_fill_buf(cx))?;
                buffer.put_slice(&take(&mut self.get_mut().rest, buffer.remaining()));
            }
            Poll::Ready(Ok(()))
        }
    }
}
