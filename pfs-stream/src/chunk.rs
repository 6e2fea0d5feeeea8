//! Chunk: the types that can be appended.

use bytes::Bytes;

/// A value that can be appended as one chunk: a reference to bytes or text, a `Vec`, a `String`, or
/// [`Bytes`], which a [local](crate::Stream::local) stream keeps without a copy.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be appended as a chunk",
    note = "bytes and text can be appended by reference: `append(&value)`"
)]
pub trait Chunk: AsRef<[u8]> + Send + Sync {
    /// Returns the bytes as a reference-counted handle if they can be kept without a copy.
    fn shared(&self) -> Option<Bytes> {
        None
    }
}

impl<T: AsRef<[u8]> + Sync + ?Sized> Chunk for &T {}

impl Chunk for Vec<u8> {}

impl Chunk for String {}

impl Chunk for Bytes {
    #[inline(always)]
    fn shared(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}
