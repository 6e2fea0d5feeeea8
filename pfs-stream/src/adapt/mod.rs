//! Adapters of readers and writers: byte streams, event streams, blocking iterators, stall
//! detection, rate limits.

mod blocking;
mod byte_stream;
mod event_stream;
#[cfg(feature = "tokio")]
mod stall;
#[cfg(feature = "tokio")]
mod throttle;
#[cfg(feature = "tokio")]
mod write;

pub use blocking::{BlockingReader, ByteIter, EventIter};
pub use byte_stream::ByteStream;
pub use event_stream::EventStream;
#[cfg(feature = "tokio")]
pub use stall::StallDetector;
#[cfg(feature = "tokio")]
pub use throttle::{Rate, Throttle};
#[cfg(feature = "tokio")]
pub use write::ByteWriter;

use std::io;

use bytes::Bytes;
use pfs_proto::{End, Event};

use crate::{LostData, ReadError};

/// An event, translated for adapters that know only bytes and errors.
pub(crate) enum Item<E> {
    /// A chunk.
    Chunk(Bytes),
    /// Bytes that a decoder needs before the chunks that follow, not counted in any offset.
    Header(Bytes),
    /// An error after which reading continues.
    Hitch(E),
    /// An error after which nothing comes.
    Failed(E),
    /// The end.
    Over,
    /// An event that is not visible to byte-only consumers.
    Nothing,
}

impl<E: From<LostData> + From<ReadError>> Item<E> {
    pub(crate) fn from_event(event: Result<Event, ReadError>) -> Self {
        match event {
            Ok(Event::Chunk(chunk)) => Self::Chunk(chunk),
            Ok(Event::Joined { header, .. }) if !header.is_empty() => Self::Header(header),
            Ok(Event::Gap { from, to, chunks }) => {
                Self::Hitch(LostData::new(from, to, chunks).into())
            }
            Ok(Event::End { reason: End::WriterDied, .. }) => {
                Self::Failed(ReadError::WriterDied.into())
            }
            Ok(Event::End { reason: End::Failed, .. }) => Self::Failed(ReadError::Failed.into()),
            Ok(Event::End { reason: End::Closed | End::CaughtUp | End::WritersGone, .. }) => {
                Self::Over
            }
            Ok(_) => Self::Nothing,
            Err(failure) if failure.is_final() => Self::Failed(failure.into()),
            Err(failure) => Self::Hitch(failure.into()),
        }
    }
}

/// Takes up to `room` bytes from the front of a chunk.
fn take(rest: &mut Bytes, room: usize) -> Bytes {
    rest.split_to(room.min(rest.len()))
}

/// Item of the byte adapters, whose errors are `io::Error`s.
type ByteItem = Item<io::Error>;

/// Returns true if no event follows this one.
fn is_last(event: &Result<Event, ReadError>) -> bool {
    match event {
        Ok(event) => matches!(event, Event::End { .. }),
        Err(failure) => failure.is_final(),
    }
}
