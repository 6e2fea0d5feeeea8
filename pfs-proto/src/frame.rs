//! Frames: the unit of the wire, with a length, a kind and a payload.

use bytes::{BufMut, Bytes};

use crate::{MAX_CONTENT_TYPE, MAX_PATH, encoding::kind};

/// The largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The largest chunk of a [`Request::Put`](crate::Request::Put), in bytes: fits into a frame
/// together with the longest path and the largest options that a daemon accepts.
pub const MAX_PUT: usize =
    MAX_PAYLOAD - (MAX_PATH + 2) - (3 * 9 + 3 + MAX_CONTENT_TYPE + 1 + 1) - 1;

/// The length of a frame header in bytes: a u32 payload length and a u8 kind.
pub const HEADER_LEN: usize = 5;

/// The largest number of descriptors that one message carries: the limit of Linux (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// A frame, cut out of a byte stream but not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind byte: the type of message in the payload.
    pub kind: u8,
    /// The payload, at most [`MAX_PAYLOAD`] bytes if it comes from a [`Decoder`](crate::Decoder).
    pub payload: Bytes,
}

/// The kinds of frames whose payload consists only of stream bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a chunk ends or continues")]
pub enum DataKind {
    /// From a writer: ends a chunk.
    Append,
    /// From a writer: the chunk continues in the next frame.
    AppendPart,
    /// To a reader: ends a chunk.
    Data,
    /// To a reader: the chunk continues in the next frame.
    DataPart,
}

impl DataKind {
    /// Returns the kind byte of the frame.
    pub fn kind(self) -> u8 {
        match self {
            Self::Append => kind::APPEND,
            Self::AppendPart => kind::APPEND_PART,
            Self::Data => kind::DATA,
            Self::DataPart => kind::DATA_PART,
        }
    }
}

/// Appends the header of a data frame to `out`. The caller then sends `len` bytes of payload.
///
/// For code paths that avoid copying the payload; [`Request::encode`](crate::Request::encode) and
/// [`Reply::encode`](crate::Reply::encode) write header and payload. `len` must be at most
/// [`MAX_PAYLOAD`]: the peer refuses a longer frame.
pub fn put_data_header(out: &mut Vec<u8>, kind: DataKind, len: usize) {
    out.extend_from_slice(&header(kind.kind(), len));
}

/// Encodes a frame header. A length beyond u32 saturates, so that the peer refuses the frame
/// instead of misreading it.
pub(crate) fn header(kind: u8, len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(len <= MAX_PAYLOAD, "a frame of {len} bytes");
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    [a, b, c, d, kind]
}

/// Encodes a chunk into `out`: one frame of kind `last`, preceded by as many frames of kind `part`
/// as the chunk's size requires.
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
