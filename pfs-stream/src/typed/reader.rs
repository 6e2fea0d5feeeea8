//! Typed reader: decodes each chunk to a value.

use std::{
    future::poll_fn,
    io,
    marker::PhantomData,
    task::{Context, Poll, ready},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Codec, Json};
use crate::{BlockingReader, Cause, LostData, ReadError, Reader, StreamReader, adapt::Item};

/// Error that takes the place of a value.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypedReadError {
    /// Values were lost, one per lost chunk. Reading continues after the gap.
    #[error(transparent)]
    Lost(#[from] LostData),
    /// A chunk does not decode to a value of this type. Reading continues after the chunk.
    #[error("the chunk of {len} bytes before offset {offset} does not decode to a value")]
    Decode {
        /// The offset after the chunk.
        offset: u64,
        /// Length of the chunk in bytes.
        len: usize,
        /// The codec's error.
        source: Cause,
    },
    /// Reading failed or, if the error is [not final](ReadError::is_final), the stream stalled.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl TypedReadError {
    /// Returns true if no item follows this error.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Read(failure) if failure.is_final())
    }
}

impl From<TypedReadError> for io::Error {
    fn from(error: TypedReadError) -> Self {
        match error {
            TypedReadError::Lost(lost) => lost.into(),
            TypedReadError::Read(failure) => failure.into(),
            error @ TypedReadError::Decode { .. } => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Follows a stream of values, one per chunk, encoded by a [`Codec`].
///
/// A chunk that does not decode is an error item, and so is a gap; reading continues after both.
/// The end of the stream is `None`. A typed reader is a `futures::Stream` (feature `futures`), has
/// [`next`](Self::next) without that feature, and converts to a blocking iterator
/// ([`IntoIterator`]). The codec allocates the memory for a value, and may allocate as much as the
/// chunk says.
///
/// See [`TypedWriter`](crate::TypedWriter) for an example.
pub struct TypedReader<T, R = Reader, C = Json> {
    reader: R,
    over: bool,
    kind: PhantomData<fn(C) -> T>,
}

impl<T, R> TypedReader<T, R> {
    /// Reads JSON values from this reader.
    pub fn json(reader: R) -> Self {
        Self::with_codec(reader)
    }
}

impl<T, R, C> TypedReader<T, R, C> {
    /// Reads values from this reader with another codec:
    /// `TypedReader::<T, _, Postcard>::with_codec(reader)`.
    pub fn with_codec(reader: R) -> Self {
        Self { reader, over: false, kind: PhantomData }
    }

    /// The underlying reader, for its stats.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the underlying reader.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

type Next<T> = Option<Result<T, TypedReadError>>;

impl<T: DeserializeOwned, R, C: Codec> TypedReader<T, R, C> {
    /// Converts an item; `None` if there is nothing to return for it.
    fn take(
        &mut self,
        item: Item<TypedReadError>,
        position: impl FnOnce(&R) -> u64,
    ) -> Option<Next<T>> {
        match item {
            Item::Chunk(chunk) => {
                Some(Some(C::decode(&chunk).map_err(|source| TypedReadError::Decode {
                    offset: position(&self.reader),
                    len: chunk.len(),
                    source: source.into(),
                })))
            }
            Item::Hitch(error) => Some(Some(Err(error))),
            Item::Failed(error) => {
                self.over = true;
                Some(Some(Err(error)))
            }
            Item::Over => {
                self.over = true;
                Some(None)
            }
            // Codecs decode chunks only; a header is dropped.
            Item::Header(_) | Item::Nothing => None,
        }
    }
}

impl<T: DeserializeOwned, R: StreamReader, C: Codec> TypedReader<T, R, C> {
    /// Waits for the next value; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`TypedReadError`]. Reading continues after an error that is not
    /// [final](TypedReadError::is_final).
    ///
    /// # Cancel safety
    ///
    /// A value is taken only if it was returned.
    pub async fn next(&mut self) -> Next<T> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next value, for hand-written futures. Otherwise like [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next<T>> {
        while !self.over {
            let item = Item::from_event(ready!(self.reader.poll_next(cx)));
            if let Some(next) = self.take(item, R::position) {
                return Poll::Ready(next);
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(feature = "futures")]
impl<T: DeserializeOwned, R: StreamReader + Unpin, C: Codec> futures_core::Stream
    for TypedReader<T, R, C>
{
    type Item = Result<T, TypedReadError>;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_next(cx)
    }
}

impl<T: DeserializeOwned, R: BlockingReader, C: Codec> IntoIterator for TypedReader<T, R, C> {
    type Item = Result<T, TypedReadError>;
    type IntoIter = TypedIter<T, R, C>;

    fn into_iter(self) -> TypedIter<T, R, C> {
        TypedIter(self)
    }
}

/// Blocking iterator over the values of a [`TypedReader`].
#[derive(Debug)]
pub struct TypedIter<T, R = Reader, C = Json>(TypedReader<T, R, C>);

impl<T: DeserializeOwned, R: BlockingReader, C: Codec> Iterator for TypedIter<T, R, C> {
    type Item = Result<T, TypedReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = &mut self.0;
        while !reader.over {
            let item = Item::from_event(reader.reader.next_blocking());
            if let Some(next) = reader.take(item, <R as BlockingReader>::position) {
                return next;
            }
        }
        None
    }
}

impl<T, R: std::fmt::Debug, C> std::fmt::Debug for TypedReader<T, R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedReader")
            .field("reader", &self.reader)
            .field("over", &self.over)
            .finish()
    }
}
