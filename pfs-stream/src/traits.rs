//! What readers and writers have in common, whether their stream is in this process or with a daemon.
//!
//! `pfs_stream::Reader` and `pfs_client::Reader` are [`StreamReader`]s, the two `Writer`s are [`StreamWriter`]s. Whatever
//! is written for the traits moves from one to the other by changing the line that makes the reader or writer. All that
//! adapts them is written for the traits too: byte streams, typed streams, stalls, throttles.
//!
//! A reader is one poll function, because that is what adapters are made of. It yields [`Event`]s: a chunk, a gap with its
//! exact range, the end with its reason. What is not an end is a [`ReadFailure`]: removed, too slow, daemon gone. After
//! the end or a failure, the same comes again.
//!
//! A writer is five futures. `append` hands a chunk over; `flush` waits until all that was handed over is in the
//! stream (in one process that is so at once); `complete` ends the writer properly, and `close` ends the stream with it;
//! `close_failed` ends both as failed. A writer that is dropped without any of these has died, and readers that ask are told so.
//!
//! Everything is cancel safe. A poll that is pending has taken nothing. An `append` that is dropped while it waits has
//! handed over the whole chunk or nothing of it.
//!
//! Most names differ from those that the types have for themselves, and from those of the standard library's traits, on
//! purpose: all can be imported beside each other. Where both [`std::io::Write`] and [`StreamWriter`] are, `flush` needs to be
//! told which: `StreamWriter::flush(&mut writer)`.
//!
//! ```
//! # use pfs_stream::*;
//! async fn copy(mut from: impl StreamReader, mut to: impl StreamWriter) -> Result<u64, Box<dyn std::error::Error>> {
//!     loop {
//!         match from.event().await? {
//!             Event::Chunk(bytes) => to.append_bytes(&bytes).await?,
//!             Event::Gap { from, to, .. } => eprintln!("lost {from} to {to}"),
//!             Event::End { .. } => return Ok(to.close().await?),
//!             _ => (),
//!         }
//!     }
//! }
//! ```

use std::{
    future::{Future, poll_fn},
    task::{Context, Poll},
};

use bytes::Bytes;
use pfs_proto::Event;

use crate::{ByteStream, EventStream, ReadFailure, WriteFailure};

/// Follows a stream, wherever that is.
pub trait StreamReader: Send {
    /// The next event, as soon as there is one. Pending, it has taken nothing, and the waker will be woken.
    ///
    /// # Errors
    ///
    /// [`ReadFailure`]; then the same again.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadFailure>>;

    /// The next event, however long it takes. Cancel safe: an event is taken only if it was returned.
    ///
    /// # Errors
    ///
    /// [`ReadFailure`]; then the same again.
    fn event(&mut self) -> impl Future<Output = Result<Event, ReadFailure>> + Send
    where
        Self: Sized,
    {
        poll_fn(|cx| self.poll_event(cx))
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
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadFailure>> {
        (**self).poll_event(cx)
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

    /// How many readers were attached at the newest append of which that is known; 0 before the first.
    fn readers(&self) -> u32;

    /// Hands one chunk over; an empty one is nothing. Waits while a `block` reader needs the room.
    ///
    /// Cancel safe: dropped before it is done, it has handed over the whole chunk or nothing of it.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`]. After [`WriteFailure::TooLarge`] the writer can go on.
    fn append(&mut self, chunk: &[u8]) -> impl Future<Output = Result<(), WriteFailure>> + Send;

    /// As [`append`](Self::append), without a copy where the stream can keep these very bytes.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    fn append_bytes(&mut self, chunk: &Bytes) -> impl Future<Output = Result<(), WriteFailure>> + Send {
        self.append(chunk)
    }

    /// Waits until everything that was handed over is in the stream. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`]: something may be missing.
    fn flush(&mut self) -> impl Future<Output = Result<(), WriteFailure>> + Send;

    /// Ends this writer properly, once everything is in the stream, and tells the offset after its last chunk. The stream
    /// stays open. Cancelled, the writer counts as one that died.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`]: something may be missing.
    fn complete(self) -> impl Future<Output = Result<u64, WriteFailure>> + Send;

    /// As [`complete`](Self::complete), and closes the stream: its readers get what is in it, and then the end.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`]: something may be missing.
    fn close(self) -> impl Future<Output = Result<u64, WriteFailure>> + Send;

    /// As [`close`](Self::close), but as failed: readers get what is in the stream, and then
    /// [`End::Failed`](pfs_proto::End::Failed) in place of an end. The writer counts as one that died.
    ///
    /// # Errors
    ///
    /// [`WriteFailure`]: something may be missing.
    fn close_failed(self) -> impl Future<Output = Result<u64, WriteFailure>> + Send;

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
