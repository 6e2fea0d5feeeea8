//! Typed writer: appends each value as one chunk.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::{Codec, Json};
use crate::{Cause, Finish, StreamWriter, WriteError, Writer};

/// Error appending a value.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypedWriteError {
    /// The codec cannot encode the value. The writer can go on.
    #[error("cannot encode the value")]
    Encode(#[source] Cause),
    /// The stream does not accept the chunk.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Appends values, one per chunk, encoded by a [`Codec`].
///
/// ```
/// # use pfs_stream::*;
/// # pollster::block_on(async {
/// let stream = Stream::new("sensors", StreamConfig::default())?;
/// let reader = stream.reader(ReadOptions::default())?;
/// let mut writer = TypedWriter::<(String, f64), _>::json(stream.writer()?);
/// let mut reader = TypedReader::<(String, f64), _>::json(reader);
/// writer.append(&("temperature".to_owned(), 21.5)).await?;
/// assert_eq!(writer.get_ref().readers(), 1);
/// writer.finish(Finish::Close).await?;
/// let (name, degrees) = reader.next().await.expect("there is one")?;
/// assert_eq!((name.as_str(), degrees), ("temperature", 21.5));
/// assert!(reader.next().await.is_none(), "the end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedWriter<T: ?Sized, W = Writer, C = Json> {
    writer: W,
    kind: PhantomData<fn(&T, C)>,
}

impl<T: ?Sized, W: StreamWriter> TypedWriter<T, W> {
    /// Writes JSON values through this writer. JSON encodes bytes as lists of numbers.
    pub fn json(writer: W) -> Self {
        Self::with_codec(writer)
    }
}

impl<T: ?Sized, W: StreamWriter, C> TypedWriter<T, W, C> {
    /// Writes values through this writer with another codec, such as `Postcard`:
    /// `TypedWriter::<T, _, Postcard>::with_codec(writer)`.
    pub fn with_codec(writer: W) -> Self {
        Self { writer, kind: PhantomData }
    }

    /// The underlying writer.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// Returns the underlying writer.
    pub fn into_inner(self) -> W {
        self.writer
    }

    /// Waits until every value that was appended is in the stream.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: values may be missing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush().await
    }

    /// Waits until every value is in the stream, then ends this writer as `finish` says. Returns
    /// the offset after its last chunk; see [`StreamWriter::finish`].
    ///
    /// # Errors
    ///
    /// [`WriteError`]: values may be missing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the writer counts as died.
    pub async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.writer.finish(finish).await
    }
}

impl<T: Serialize + ?Sized, W: StreamWriter, C: Codec> TypedWriter<T, W, C> {
    /// Appends a value.
    ///
    /// # Errors
    ///
    /// [`TypedWriteError`]. The writer can go on if a value cannot be encoded or is too large.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has handed over the whole value or nothing of it.
    pub async fn append(&mut self, value: &T) -> Result<(), TypedWriteError> {
        let chunk = C::encode(value).map_err(|error| TypedWriteError::Encode(error.into()))?;
        Ok(self.writer.append(Bytes::from(chunk)).await?)
    }
}

impl<T: Serialize + ?Sized, C: Codec> TypedWriter<T, Writer, C> {
    /// Like [`append`](Self::append), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// [`TypedWriteError`]. The writer can go on if a value cannot be encoded or is too large.
    pub fn append_blocking(&mut self, value: &T) -> Result<(), TypedWriteError> {
        pollster::block_on(self.append(value))
    }
}

/// Each clone is a writer of its own, like each clone of the underlying writer.
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
