//! The frame: a length, a kind and a payload.

use bytes::{BufMut, Bytes};

use crate::{MAX_CONTENT_TYPE, MAX_PATH, encoding::kind};

/// The largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The largest chunk of a [`Request::Put`](crate::Request::Put) that fits into a frame with any
/// path and with all options that a daemon takes, in bytes.
pub const MAX_PUT: usize =
    MAX_PAYLOAD - (MAX_PATH + 2) - (3 * 9 + 3 + MAX_CONTENT_TYPE + 1 + 1) - 1;

/// Bytes of a frame before its payload: a u32 length and a u8 kind.
pub const HEADER_LEN: usize = 5;

/// The most descriptors that go along with one message: as many as Linux passes with one
/// (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// One frame, cut out of a byte stream but not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload means.
    pub kind: u8,
    /// At most [`MAX_PAYLOAD`] bytes when it comes out of a [`Decoder`](crate::Decoder).
    pub payload: Bytes,
}

/// The kinds of frames whose payload is nothing but a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a chunk ends or goes on")]
pub enum DataKind {
    /// From a writer: the chunk ends with these bytes.
    Append,
    /// From a writer: the chunk goes on in the next frame.
    AppendPart,
    /// To a reader: the chunk ends with these bytes.
    Data,
    /// To a reader: the chunk goes on in the next frame.
    DataPart,
}

impl DataKind {
    /// The kind byte of such a frame.
    pub fn kind(self) -> u8 {
        match self {
            Self::Append => kind::APPEND,
            Self::AppendPart => kind::APPEND_PART,
            Self::Data => kind::DATA,
            Self::DataPart => kind::DATA_PART,
        }
    }
}

/// Appends the header of a data frame to `out`; the `len` bytes of payload are to follow it.
///
/// This is for paths that do not want to copy the payload once more;
/// [`Request::encode`](crate::Request::encode) and [`Reply::encode`](crate::Reply::encode) do the
/// same with the payload. `len` must be at most [`MAX_PAYLOAD`]: the other side refuses a longer
/// frame.
pub fn put_data_header(out: &mut Vec<u8>, kind: DataKind, len: usize) {
    out.extend_from_slice(&header(kind.kind(), len));
}

/// The header of a frame. A length beyond u32 saturates: the other side refuses it instead of
/// misreading it.
pub(crate) fn header(kind: u8, len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(len <= MAX_PAYLOAD, "a frame of {len} bytes");
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    [a, b, c, d, kind]
}

/// Appends a chunk to `out`: as one frame of kind `last`, after as many of kind `part` as its size
/// takes.
pub(crate) fn put_chunk(out: &mut bytes::BytesMut, part: DataKind, last: DataKind, chunk: &[u8]) {
    out.reserve(chunk.len().saturating_add(HEADER_LEN));
    let mut rest = chunk;
    while let Some((piece, after)) = rest.split_at_checked(MAX_PAYLOAD)
        && !after.is_empty()
    {
        out.put_slice(&header(part.kind(), piece.len()));
        out.put_slice(piece);
        rest = after;
    }
    out.put_slice(&header(last.kind(), rest.len()));
    out.put_slice(rest);
}
