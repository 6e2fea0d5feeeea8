//! Streams of values: one value a chunk.
//!
//! A [`TypedWriter`] and a [`TypedReader`] stand on any [`StreamWriter`](crate::StreamWriter) and
//! [`StreamReader`](crate::StreamReader): of this process, of a daemon, throttled, watched for
//! stalls. How a value becomes bytes is a [`Codec`]: [`Json`] unless told otherwise, [`Postcard`]
//! with the feature of that name. Both ends must use the same; nothing in the stream tells which it
//! is.

mod codec;
mod reader;
mod writer;

#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, CodecError, Json};
pub use reader::{TypedIter, TypedReadError, TypedReader};
pub use writer::{TypedWriteError, TypedWriter};
