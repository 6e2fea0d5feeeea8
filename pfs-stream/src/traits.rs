//! What readers and writers have in common, whether their stream is in this process or with a
//! daemon.
//!
//! `pfs_stream::Reader` and `pfs_client::Reader` are [`StreamReader`]s, the two `Writer`s are
//! [`StreamWriter`]s. Whatever is written for the traits moves from one to the other by changing
//! the line that makes the reader or writer. All that adapts them is written for the traits too:
//! byte streams, typed streams, stalls, throttles.
//!
//! A reader is one poll function, because that is what adapters are made of. It yields [`Event`]s:
//! a chunk, a gap with its exact range, the end with its reason. What is not an end is a
//! [`ReadError`]: removed, too slow, daemon gone. After the end or a failure, the same comes again.
//!
//! A daemon's stream yields [`Event::Attached`] first, a stream of this process does not: code for
//! both ignores the events that it has no use for.
//!
//! A writer is three futures. `append` hands a chunk over; `flush` waits until all that was handed
//! over is in the stream (in one process that is so at once); `finish` ends the writer, and the
//! stream with it if that is wanted. A writer that is dropped without it has died, and readers that
//! ask are told so.
//!
//! Everything is cancel safe. A poll that is pending has taken nothing. An `append` that is dropped
//! while it waits has handed over the whole chunk or nothing of it.
//!
//! The names are those that the types have for themselves.
//! [`Writer::finish`](crate::Writer::finish) is no future, because nothing is left to wait for in
//! this process: code that names that type does not `.await` it. Where both [`std::io::Write`] and
//! [`StreamWriter`] are imported, `flush` needs to be told which: `StreamWriter::flush(&mut
//! writer)`.
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

/// Follows a stream, wherever that is.
pub trait StreamReader: Send {
    /// The next event, as soon as there is one. Pending, it has taken nothing, and the waker will
    /// be woken.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; then the same again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>>;

    /// The next event, however long it takes. Cancel safe: an event is taken only if it was
    /// returned.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; then the same again.
    fn next(&mut self) -> impl Future<Output = Result<Event, ReadError>> + Send
    where
        Self: Sized,
    {
        poll_fn(|cx| self.poll_next(cx))
    }

    /// The offset after everything that was returned.
    fn position(&self) -> u64;

    /// Bytes in all gaps that it was told of so far. Only ever grows.
    fn lost_bytes(&self) -> u64;

    /// Chunks in all gaps that it was told of so far, where it is known how many. Only ever grows.
    fn lost_chunks(&self) -> u64;

    /// Its bytes, chunk by chunk: a `futures::Stream`, an `AsyncRead`.
    fn into_byte_stream(self) -> ByteStream<Self>
    where
        Self: Sized,
    {
        ByteStream::new(self)
    }

    /// Its events, up to the end or the failure that is the last of them: a `futures::Stream`.
    fn into_event_stream(self) -> EventStream<Self>
    where
        Self: Sized,
    {
        EventStream::new(self)
    }

    /// The same reader, which says so when nothing comes for so long.
    #[cfg(feature = "tokio")]
    fn stalls_after(self, after: std::time::Duration) -> crate::StallDetector<Self>
    where
        Self: Sized,
    {
        crate::StallDetector::new(self, after)
    }

    /// The same reader, at no more than this rate.
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

/// Appends to a stream, wherever that is.
pub trait StreamWriter: Send + Sized {
    /// The largest chunk that the stream takes, in bytes.
    fn max_chunk(&self) -> u64;

    /// How many readers were attached at the newest append of which that is known; 0 before the
    /// first.
    fn readers(&self) -> u32;

    /// Hands one chunk over; an empty one is nothing. Waits while a `block` reader needs the room.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. After [`WriteError::TooLarge`] the writer can go on.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has handed over the whole chunk or nothing of it.
    fn append(&mut self, chunk: impl Chunk) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Waits until everything that was handed over is in the stream.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: something may be missing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    fn flush(&mut self) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Ends this writer as `finish` says, once everything is in the stream, and tells the offset
    /// after its last chunk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: something may be missing.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the writer counts as one that died.
    fn finish(self, finish: Finish) -> impl Future<Output = Result<u64, WriteError>> + Send;

    /// The same writer, as an `AsyncWrite`.
    #[cfg(feature = "tokio")]
    fn into_async_write(self) -> crate::ByteWriter<Self>
    where
        Self: 'static,
    {
        crate::ByteWriter::new(self)
    }

    /// The same writer, at no more than this rate.
    #[cfg(feature = "tokio")]
    fn throttled(self, rate: crate::Rate) -> crate::Throttle<Self> {
        crate::Throttle::new(self, rate)
    }
}
