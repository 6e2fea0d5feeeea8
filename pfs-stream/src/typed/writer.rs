//! Appending values.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::{Codec, Json};
use crate::{Cause, Finish, StreamWriter, WriteError, Writer};

/// Why a value was not appended.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypedWriteError {
    /// The value can't be written in this form. The writer can go on.
    #[error("the value can't be encoded")]
    Encode(#[source] Cause),
    /// The stream does not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Appends values, one a chunk, as a [`Codec`] writes them.
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
    /// Values as JSON through this writer: bytes too, as lists of numbers.
    pub fn json(writer: W) -> Self {
        Self::with_codec(writer)
    }
}

impl<T: ?Sized, W: StreamWriter, C> TypedWriter<T, W, C> {
    /// Values through this writer as another codec writes them, such as `Postcard`:
    /// `TypedWriter::<T, _, Postcard>::with_codec(writer)`.
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

    /// Waits until everything that was appended is in the stream.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::flush`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush().await
    }

    /// Ends this writer; see [`StreamWriter::finish`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn finish(self, finish: Finish) -> Result<u64, WriteError> {
        self.writer.finish(finish).await
    }
}

impl<T: Serialize + ?Sized, W: StreamWriter, C: Codec> TypedWriter<T, W, C> {
    /// Appends a value.
    ///
    /// # Errors
    ///
    /// [`TypedWriteError`]. After a value that can't be encoded, or is too large, the writer can go
    /// on.
    ///
    /// # Cancel safety
    ///
    /// As [`StreamWriter::append`]: the value is handed over whole or not at all.
    pub async fn append(&mut self, value: &T) -> Result<(), TypedWriteError> {
        let chunk = C::encode(value).map_err(|error| TypedWriteError::Encode(error.into()))?;
        Ok(self.writer.append(Bytes::from(chunk)).await?)
    }
}

impl<T: Serialize + ?Sized, C: Codec> TypedWriter<T, Writer, C> {
    /// As [`append`](Self::append), but blocks the thread while it waits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn append_blocking(&mut self, value: &T) -> Result<(), TypedWriteError> {
        pollster::block_on(self.append(value))
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
