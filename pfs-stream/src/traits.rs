//! Traits for readers and writers, whether the stream is in this process or with a daemon.
//!
//! `pfs_stream::Reader` and `pfs_client::Reader` are [`StreamReader`]s, and the two `Writer`s are
//! [`StreamWriter`]s. Code written for the traits moves from one to the other by changing the line
//! that makes the reader or writer. All adapters are written for the traits too: byte streams,
//! typed streams, stall detection, throttling.
//!
//! A reader is one poll function, because adapters are built from poll functions. It yields
//! [`Event`]s: a chunk, a gap with its exact range, or the end with its reason. Any other way to
//! stop is a [`ReadError`]: removed, too slow, daemon gone. After the end or a final error, the
//! reader returns the same result again.
//!
//! A daemon's stream yields [`Event::Attached`] first; a stream of this process does not. Code for
//! both ignores the events that it does not need.
//!
//! A writer is three futures. `append` hands a chunk over. `flush` waits until every chunk handed
//! over is in the stream; in one process that is immediate. `finish` ends the writer and optionally
//! closes the stream. A writer that is dropped without `finish` has died, and readers that ask are
//! told so.
//!
//! Everything is cancel safe. A pending poll has taken nothing. An `append` that is dropped while
//! it waits has handed over the whole chunk or nothing of it.
//!
//! The trait methods have the same names as the methods of the types.
//! [`Writer::finish`](crate::Writer::finish) is not a future, because in this process there is
//! nothing left to wait for: code that names that type does not `.await` it. Where both
//! [`std::io::Write`] and [`StreamWriter`] are imported, write `StreamWriter::flush(&mut writer)`
//! instead of `writer.flush()`.
//!
//! ```
//! # use pfs_stream::*;
//! async fn copy(mut from: impl StreamReader, mut to: impl StreamWriter) -> Result<u64, Box<dyn std::error::Error>> {
//!     loop {
//!         match from.next().await? {
//!             Event::Chunk(bytes) => to.append(bytes).await?,
//!             Event::Gap { from, to, .. } => eprintln!("lost {from} to {to}"),
//!             Event::End { .. } => return Ok(to.finish(Finish::Close).await?),
//!             _ => (),
//!         }
//!     }
//! }
//! ```

use std::{
    future::{Future, poll_fn},
    task::{Context, Poll},
};

use pfs_proto::Event;

use crate::{ByteStream, Chunk, EventStream, Finish, ReadError, WriteError};

/// Follows a stream, in this process or with a daemon.
pub trait StreamReader: Send {
    /// Polls for the next event. A pending poll has taken nothing, and its waker will be woken.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. Calls after a [final](ReadError::is_final) error return that error again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>>;

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. Calls after a [final](ReadError::is_final) error return that error again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is taken only if it was returned.
    fn next(&mut self) -> impl Future<Output = Result<Event, ReadError>> + Send
    where
        Self: Sized,
    {
        poll_fn(|cx| self.poll_next(cx))
    }

    /// The offset after the last byte or gap that was returned.
    fn position(&self) -> u64;

    /// Bytes in all gaps that the reader was told of. Never decreases.
    fn lost_bytes(&self) -> u64;

    /// Chunks in all gaps that the reader was told of; a gap whose chunk count is unknown adds
    /// nothing. Never decreases.
    fn lost_chunks(&self) -> u64;

    /// Adapts the reader to a byte stream of whole chunks: a `futures::Stream` and an `AsyncRead`.
    fn into_byte_stream(self) -> ByteStream<Self>
    where
        Self: Sized,
    {
        ByteStream::new(self)
    }

    /// Adapts the reader to a `futures::Stream` of events. The end or the final error comes last.
    fn into_event_stream(self) -> EventStream<Self>
    where
        Self: Sized,
    {
        EventStream::new(self)
    }

    /// Adds stall detection: a wait of `after` without an event fails with [`ReadError::Stalled`].
    #[cfg(feature = "tokio")]
    fn stalls_after(self, after: std::time::Duration) -> crate::StallDetector<Self>
    where
        Self: Sized,
    {
        crate::StallDetector::new(self, after)
    }

    /// Adds a rate limit to the reader.
    #[cfg(feature = "tokio")]
    fn throttled(self, rate: crate::Rate) -> crate::Throttle<Self>
    where
        Self: Sized,
    {
        crate::Throttle::new(self, rate)
    }
}

impl<R: StreamReader + ?Sized> StreamReader for Box<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        (**self).poll_next(cx)
    }

    fn position(&self) -> u64 {
        (**self).position()
    }

    fn lost_bytes(&self) -> u64 {
        (**self).lost_bytes()
    }

    fn lost_chunks(&self) -> u64 {
        (**self).lost_chunks()
    }
}

/// Appends to a stream, in this process or with a daemon.
pub trait StreamWriter: Send + Sized {
    /// The largest chunk that the stream accepts, in bytes.
    fn max_chunk(&self) -> u64;

    /// How many readers were attached at the latest append for which the number is known; 0 before
    /// the first.
    fn readers(&self) -> u32;

    /// Hands one chunk over, unless it is empty. Waits while a `block` reader needs the room.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. The writer can go on after [`WriteError::TooLarge`].
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has handed over the whole chunk or nothing of it.
    fn append(&mut self, chunk: impl Chunk) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Waits until every chunk that was handed over is in the stream.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: chunks may be missing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    fn flush(&mut self) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Waits until every chunk is in the stream, then ends this writer as `finish` says. Returns
    /// the offset after its last chunk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: chunks may be missing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the writer counts as died.
    fn finish(self, finish: Finish) -> impl Future<Output = Result<u64, WriteError>> + Send;

    /// Adapts the writer to an `AsyncWrite`.
    #[cfg(feature = "tokio")]
    fn into_async_write(self) -> crate::ByteWriter<Self>
    where
        Self: 'static,
    {
        crate::ByteWriter::new(self)
    }

    /// Adds a rate limit to the writer.
    #[cfg(feature = "tokio")]
    fn throttled(self, rate: crate::Rate) -> crate::Throttle<Self> {
        crate::Throttle::new(self, rate)
    }
}
