//! Codecs: encode a value as a chunk, and decode a chunk to a value.

use std::error::Error;

use serde::{Serialize, de::DeserializeOwned};

/// Error of a codec.
pub type CodecError = Box<dyn Error + Send + Sync + 'static>;

/// Encodes values as chunks and decodes chunks to values.
pub trait Codec {
    /// Encodes a value as a chunk.
    ///
    /// # Errors
    ///
    /// The codec cannot represent the value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError>;

    /// Decodes a chunk to a value.
    ///
    /// # Errors
    ///
    /// The chunk does not encode a value of this type.
    fn decode<T: DeserializeOwned>(chunk: &[u8]) -> Result<T, CodecError>;
}

/// JSON, one line per value: the format that `pfs cat --stream` prints and a browser's
/// `EventSource` reads.
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

/// Postcard, a compact binary format (feature `postcard`). Postcard encodes no field names: both
/// ends must have the same type.
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
