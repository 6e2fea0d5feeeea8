//! Appending values.

use std::marker::PhantomData;

use serde::Serialize;
use thiserror::Error;

use super::{Codec, CodecError, Json};
use crate::{StreamWriter, WriteFailure, Writer};

/// Why a value was not appended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypedWriteError {
    /// The value can't be written in this form. The writer can go on.
    #[error("the value can't be encoded")]
    Encode(#[source] CodecError),
    /// The stream does not take it.
    #[error(transparent)]
    Write(#[from] WriteFailure),
}

/// Appends values, one a chunk, as a [`Codec`] writes them.
///
/// ```
/// # use pfs_stream::*;
/// # pollster::block_on(async {
/// let stream = Stream::new("sensors", StreamConfig::default())?;
/// let reader = stream.reader(ReadOptions::default(), Peer::default())?;
/// let mut writer = TypedWriter::<(String, f64), _>::new(stream.writer(Peer::default())?);
/// let mut reader = TypedReader::<(String, f64), _>::new(reader);
/// let readers = writer.send(&("temperature".to_owned(), 21.5)).await?;
/// assert_eq!(readers, 1);
/// writer.close().await?;
/// let (name, degrees) = reader.recv().await.expect("there is one")?;
/// assert_eq!((name.as_str(), degrees), ("temperature", 21.5));
/// assert!(reader.recv().await.is_none(), "the end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedWriter<T: ?Sized, W = Writer, C = Json> {
    writer: W,
    kind: PhantomData<fn(&T, C)>,
}

impl<T: ?Sized, W: StreamWriter> TypedWriter<T, W> {
    /// Values as JSON through this writer.
    pub fn new(writer: W) -> Self {
        Self::with_codec(writer)
    }
}

impl<T: ?Sized, W: StreamWriter, C> TypedWriter<T, W, C> {
    /// Values through this writer as another codec writes them: `TypedWriter::<T, _, Postcard>::with_codec(writer)`.
    pub fn with_codec(writer: W) -> Self {
        Self { writer, kind: PhantomData }
    }

    /// The writer beneath.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// The writer again.
    pub fn into_inner(self) -> W {
        self.writer
    }

    /// Waits until everything that was sent is in the stream. Cancel safe.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::flush`].
    pub async fn flush(&mut self) -> Result<(), WriteFailure> {
        self.writer.flush().await
    }

    /// Ends this writer properly; see [`StreamWriter::complete`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn complete(self) -> Result<u64, WriteFailure> {
        self.writer.complete().await
    }

    /// Ends this writer and the stream; see [`StreamWriter::close`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn close(self) -> Result<u64, WriteFailure> {
        self.writer.close().await
    }
}

impl<T: Serialize + ?Sized, W: StreamWriter, C: Codec> TypedWriter<T, W, C> {
    /// Appends a value, and tells how many readers were attached at the newest append of which that is known. Cancel safe as
    /// [`StreamWriter::append`] is: the value is handed over whole or not at all.
    ///
    /// # Errors
    ///
    /// [`TypedWriteError`]. After a value that can't be encoded, or is too large, the writer can go on.
    pub async fn send(&mut self, value: &T) -> Result<u32, TypedWriteError> {
        let chunk = C::encode(value).map_err(TypedWriteError::Encode)?;
        self.writer.append_bytes(&chunk.into()).await?;
        Ok(self.writer.readers())
    }
}

impl<T: Serialize + ?Sized, C: Codec> TypedWriter<T, Writer, C> {
    /// As [`send`](Self::send), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_blocking(&mut self, value: &T) -> Result<u32, TypedWriteError> {
        pollster::block_on(self.send(value))
    }
}

/// A clone is a writer of its own, as its writer's clone is.
impl<T: ?Sized, W: Clone, C> Clone for TypedWriter<T, W, C> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone(), kind: PhantomData }
    }
}

impl<T: ?Sized, W: std::fmt::Debug, C> std::fmt::Debug for TypedWriter<T, W, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedWriter").field("writer", &self.writer).finish_non_exhaustive()
    }
}
