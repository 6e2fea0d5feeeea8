//! How a value becomes a chunk, and a chunk a value.

use std::error::Error;

use serde::{Serialize, de::DeserializeOwned};

/// What a codec has to say against a value or a chunk.
pub type CodecError = Box<dyn Error + Send + Sync + 'static>;

/// Makes chunks of values and values of chunks.
pub trait Codec {
    /// The chunk that stands for this value.
    ///
    /// # Errors
    ///
    /// When the value can't be written this way.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError>;

    /// The value that this chunk stands for.
    ///
    /// # Errors
    ///
    /// When it stands for none.
    fn decode<T: DeserializeOwned>(chunk: &[u8]) -> Result<T, CodecError>;
}

/// JSON, one line a value: what `pfs cat --stream` prints and a browser's `EventSource` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl Codec for Json {
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(line)
    }

    fn decode<T: DeserializeOwned>(chunk: &[u8]) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(chunk)?)
    }
}

/// Postcard, a compact binary form (feature `postcard`). It carries no names of fields: both ends
/// must have the same type.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(postcard::to_stdvec(value)?)
    }

    fn decode<T: DeserializeOwned>(chunk: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(chunk)? {
            (value, []) => Ok(value),
            (_, rest) => Err(format!("{} bytes follow the value", rest.len()).into()),
        }
    }
}
