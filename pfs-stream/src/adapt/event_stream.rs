//! Event stream adapter of a reader.

#[cfg(feature = "futures")]
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

#[cfg(feature = "futures")]
use pfs_proto::Event;

#[cfg(feature = "futures")]
use crate::ReadError;
use crate::StreamReader;

/// The events of a reader as a `futures::Stream` (feature `futures`): chunks, gaps and other
/// events. The last item is the end or a [final](crate::ReadError::is_final) error.
///
/// Made by [`StreamReader::into_event_stream`].
#[derive(Debug)]
#[cfg_attr(not(feature = "futures"), allow(dead_code))]
pub struct EventStream<R> {
    reader: R,
    over: bool,
}

impl<R: StreamReader> EventStream<R> {
    /// Creates an event stream from this reader.
    pub fn new(reader: R) -> Self {
        Self { reader, over: false }
    }

    /// The underlying reader.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the underlying reader.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

#[cfg(feature = "futures")]
impl<R: StreamReader + Unpin> futures_core::Stream for EventStream<R> {
    type Item = Result<Event, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let event = ready!(this.reader.poll_next(cx));
        this.over = super::is_last(&event);
        Poll::Ready(Some(event))
    }
}
