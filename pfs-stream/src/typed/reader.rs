//! Following values.

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

/// What comes instead of a value.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypedReadError {
    /// Values were lost, as many as chunks. It goes on behind them.
    #[error(transparent)]
    Lost(#[from] LostData),
    /// A chunk is not a value of this type. It goes on behind it.
    #[error("the chunk of {len} bytes before offset {offset} is no such value")]
    Decode {
        /// The offset after the chunk.
        offset: u64,
        /// Its bytes.
        len: usize,
        /// What the codec says.
        source: Cause,
    },
    /// It can't be read on; or, if that is [not final](ReadError::is_final), nothing came for a
    /// while.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl TypedReadError {
    /// Whether nothing follows it.
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

/// Follows a stream of values, one a chunk, as a [`Codec`] writes them.
///
/// A chunk that is no such value is an error item, and so is a gap; both times it goes on. It ends
/// where the stream ends: `None`. It is a `futures::Stream` (feature `futures`), has
/// [`next`](Self::next) without that, and is an iterator for a thread that waits
/// ([`IntoIterator`]). Memory for a value comes from the codec, which may take as much as the chunk
/// says.
///
/// See [`TypedWriter`](crate::TypedWriter) for an example.
pub struct TypedReader<T, R = Reader, C = Json> {
    reader: R,
    over: bool,
    kind: PhantomData<fn(C) -> T>,
}

impl<T, R> TypedReader<T, R> {
    /// Values as JSON from this reader.
    pub fn json(reader: R) -> Self {
        Self::with_codec(reader)
    }
}

impl<T, R, C> TypedReader<T, R, C> {
    /// Values from this reader as another codec writes them: `TypedReader::<T, _,
    /// Postcard>::with_codec(reader)`.
    pub fn with_codec(reader: R) -> Self {
        Self { reader, over: false, kind: PhantomData }
    }

    /// The reader beneath, for its stats.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The reader again.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

type Next<T> = Option<Result<T, TypedReadError>>;

impl<T: DeserializeOwned, R, C: Codec> TypedReader<T, R, C> {
    /// What an item is here; `None` if nothing.
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
            Item::Nothing => None,
        }
    }
}

impl<T: DeserializeOwned, R: StreamReader, C: Codec> TypedReader<T, R, C> {
    /// The next value, however long it takes; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`TypedReadError`]; it goes on behind all but [final](TypedReadError::is_final) ones.
    ///
    /// # Cancel safety
    ///
    /// A value is taken only if it was returned.
    pub async fn next(&mut self) -> Next<T> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for futures written by hand.
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

/// The values of a [`TypedReader`], for a thread that waits for them.
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
