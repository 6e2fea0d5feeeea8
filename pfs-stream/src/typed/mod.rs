//! Typed streams: one value per chunk.
//!
//! A [`TypedWriter`] and a [`TypedReader`] wrap any [`StreamWriter`](crate::StreamWriter) and
//! [`StreamReader`](crate::StreamReader): of this process, of a daemon, throttled, or with stall
//! detection. A [`Codec`] encodes the values: [`Json`] by default, [`Postcard`] with the feature of
//! that name. Both ends must use the same codec; nothing in the stream names it.

mod codec;
mod reader;
mod writer;

#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, CodecError, Json};
pub use reader::{TypedIter, TypedReadError, TypedReader};
pub use writer::{TypedWriteError, TypedWriter};
