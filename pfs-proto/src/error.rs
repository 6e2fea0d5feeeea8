//! Error types that programs can tell apart: error codes, frame, message and path errors.

use std::{convert::Infallible, fmt};

use crate::{MAX_PATH, MAX_PAYLOAD, Unprintable};

/// Error code: the kind of a failure, as the daemon reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Protocol error: the bytes are not a message, or the message is not allowed here.
    Protocol,
    /// The two ends have no protocol version in common.
    Version,
    /// The stream does not exist.
    NoSuchStream,
    /// A stream of this name exists already.
    AlreadyExists,
    /// The stream is closed.
    Closed,
    /// The stream was removed.
    Removed,
    /// The chunk is larger than the stream accepts.
    TooLarge,
    /// The daemon's limit on streams, memory or connections is reached.
    Limit,
    /// The path is not valid for a stream.
    BadPath,
    /// An option has a value that is not allowed.
    BadOption,
    /// The path names a stream, but the request needs a document.
    IsStream,
    /// The path names a document, but the request needs a stream.
    IsDocument,
    /// The offset is past head.
    PastHead,
    /// The reader was disconnected because it was too slow.
    TooSlow,
    /// The daemon is shutting down.
    ShuttingDown,
    /// The client sent nothing for too long.
    Timeout,
    /// Permission denied: the client may not do this.
    Denied,
    /// Internal error: something in the daemon or its system failed.
    Internal,
    /// The daemon is in use.
    Busy,
    /// The daemon that owns the stream cannot be reached.
    Unreachable,
    /// An error code of a later version.
    Unknown(u16),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol error",
            Self::Version => "no common protocol version",
            Self::NoSuchStream => "no such stream",
            Self::AlreadyExists => "the stream exists already",
            Self::Closed => "the stream is closed",
            Self::Removed => "the stream was removed",
            Self::TooLarge => "chunk too large",
            Self::Limit => "limit reached",
            Self::BadPath => "bad path",
            Self::BadOption => "bad option",
            Self::IsStream => "the path is a stream",
            Self::IsDocument => "the path is a document",
            Self::PastHead => "offset past head",
            Self::TooSlow => "disconnected for being slow",
            Self::ShuttingDown => "the daemon is shutting down",
            Self::Timeout => "timed out",
            Self::Denied => "not allowed",
            Self::Internal => "internal error",
            Self::Busy => "the daemon is in use",
            Self::Unreachable => "the daemon that owns the stream cannot be reached",
            Self::Unknown(code) => return write!(f, "unknown error {code}"),
        })
    }
}

impl From<u16> for ErrorCode {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::Protocol,
            2 => Self::Version,
            3 => Self::NoSuchStream,
            4 => Self::AlreadyExists,
            5 => Self::Closed,
            6 => Self::Removed,
            7 => Self::TooLarge,
            8 => Self::Limit,
            9 => Self::BadPath,
            10 => Self::BadOption,
            11 => Self::IsStream,
            12 => Self::IsDocument,
            13 => Self::PastHead,
            14 => Self::TooSlow,
            15 => Self::ShuttingDown,
            16 => Self::Timeout,
            17 => Self::Denied,
            18 => Self::Internal,
            19 => Self::Busy,
            20 => Self::Unreachable,
            code => Self::Unknown(code),
        }
    }
}

/// Converts an error code to its number on the wire.
impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Protocol => 1,
            ErrorCode::Version => 2,
            ErrorCode::NoSuchStream => 3,
            ErrorCode::AlreadyExists => 4,
            ErrorCode::Closed => 5,
            ErrorCode::Removed => 6,
            ErrorCode::TooLarge => 7,
            ErrorCode::Limit => 8,
            ErrorCode::BadPath => 9,
            ErrorCode::BadOption => 10,
            ErrorCode::IsStream => 11,
            ErrorCode::IsDocument => 12,
            ErrorCode::PastHead => 13,
            ErrorCode::TooSlow => 14,
            ErrorCode::ShuttingDown => 15,
            ErrorCode::Timeout => 16,
            ErrorCode::Denied => 17,
            ErrorCode::Internal => 18,
            ErrorCode::Busy => 19,
            ErrorCode::Unreachable => 20,
            ErrorCode::Unknown(code) => code,
        }
    }
}

/// Framing error: why a byte stream cannot be cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A header claims a payload larger than any frame may have.
    #[error("a frame claims a payload of {len} bytes; the maximum is {MAX_PAYLOAD} bytes")]
    TooLong {
        /// The claimed length, in bytes.
        len: u64,
    },
}

/// Decoding error: why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// No message of this kind exists in this direction.
    #[error("there is no message of kind {0:#04x} in this direction")]
    UnknownKind(u8),
    /// The payload ends before the message does.
    #[error("a message of kind {kind:#04x} ends in the middle of a field")]
    Truncated {
        /// The frame's kind.
        kind: u8,
    },
    /// The payload continues after the end of the message.
    #[error("a message of kind {kind:#04x} has {extra} extra bytes after its end")]
    TrailingBytes {
        /// The frame's kind.
        kind: u8,
        /// The number of bytes left over.
        extra: usize,
    },
    /// A string is not UTF-8.
    #[error("a string in a message of kind {kind:#04x} is not UTF-8")]
    NotUtf8 {
        /// The frame's kind.
        kind: u8,
    },
    /// The value of a field has no meaning.
    #[error("a message of kind {kind:#04x} has an invalid {field}: {value}")]
    BadValue {
        /// The frame's kind.
        kind: u8,
        /// The name of the field.
        field: &'static str,
        /// The value of the field.
        value: u64,
    },
    /// The first message does not begin like a `Hello`: the peer does not speak this protocol.
    #[error("the peer does not speak the pfs protocol")]
    BadMagic,
    /// The message is well formed, but its path is not valid for a stream.
    #[error("bad path: {0}")]
    Path(PathError),
}

// Written by hand because the derive would make the path error a source. The message already
// includes its text, so a printed error chain would repeat it.
impl From<PathError> for MessageError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl MessageError {
    /// Returns the error code to send to the peer that sent the message.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Path(_) => ErrorCode::BadPath,
            _ => ErrorCode::Protocol,
        }
    }
}

/// Path error: why a string is not the path of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path is the empty string.
    #[error("the path is empty; a path looks like /streamfs/cam")]
    Empty,
    /// The path does not begin with a slash.
    #[error("the path does not begin with '/'; a path looks like /streamfs/cam")]
    NotAbsolute,
    /// The path is longer than [`MAX_PATH`](crate::MAX_PATH) bytes.
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// A segment is empty: two slashes in a row, or a slash at the end.
    #[error("a segment of the path is empty; use single slashes, and no slash at the end")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("the path has a segment '.' or '..'; write out the whole path")]
    DotSegment,
    /// The path contains a control or format character.
    #[error("{0}, which a path may not contain")]
    Unprintable(Unprintable),
    /// A segment begins or ends with a blank, which people cannot see.
    #[error("a segment of the path begins or ends with a blank; use blanks only inside a segment")]
    EdgeBlank,
    /// The path names only a mount; a stream has a name below its mount.
    #[error("the path does not name a stream; a path is a mount and a name, such as /streamfs/cam")]
    NoName,
}

impl From<Infallible> for PathError {
    /// Required by generic callers whose path is a [`StreamPath`](crate::StreamPath) already: the
    /// conversion cannot fail.
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_have_distinct_numbers_and_unknown_numbers_are_kept() {
        for number in 0..=u16::MAX {
            let code = ErrorCode::from(number);
            assert_eq!(u16::from(code), number);
            assert_eq!(matches!(code, ErrorCode::Unknown(_)), !(1..=20).contains(&number));
        }
    }
}
