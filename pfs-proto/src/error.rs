//! Why something failed, in a form that programs can tell apart.

use std::{convert::Infallible, fmt};

use crate::{MAX_PATH, MAX_PAYLOAD, Unprintable};

/// The kind of a failure, as the daemon tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The bytes are not a message, or it is not allowed here.
    Protocol,
    /// No protocol version in common.
    Version,
    /// There is no such stream.
    NoSuchStream,
    /// There is a stream of this name.
    AlreadyExists,
    /// The stream is closed.
    Closed,
    /// The stream was removed.
    Removed,
    /// The chunk is larger than the stream takes.
    TooLarge,
    /// The daemon's limit on streams, memory or connections is reached.
    Limit,
    /// The path is not one that a stream can have.
    BadPath,
    /// An option has a value that is not allowed.
    BadOption,
    /// This needs a document and it is a stream.
    IsStream,
    /// This needs a stream and it is a document.
    IsDocument,
    /// The offset is past head.
    PastHead,
    /// The reader was disconnected for being slow.
    TooSlow,
    /// The daemon is shutting down.
    ShuttingDown,
    /// The client said nothing for too long.
    Timeout,
    /// The client may not do this.
    Denied,
    /// Something in the daemon or its system failed.
    Internal,
    /// The daemon is in use.
    Busy,
    /// A code of a later version.
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
            Self::IsStream => "it is a stream",
            Self::IsDocument => "it is a document",
            Self::PastHead => "offset past head",
            Self::TooSlow => "disconnected for being slow",
            Self::ShuttingDown => "the daemon is shutting down",
            Self::Timeout => "timed out",
            Self::Denied => "not allowed",
            Self::Internal => "internal error",
            Self::Busy => "the daemon is in use",
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
            code => Self::Unknown(code),
        }
    }
}

/// The number that stands for it on the wire.
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
            ErrorCode::Unknown(code) => code,
        }
    }
}

/// Why a byte stream cannot be cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A header claims a payload larger than any frame's.
    #[error(
        "a frame claims a payload of {len} bytes, and {MAX_PAYLOAD} is the most that one may have"
    )]
    TooLong {
        /// What it claims, in bytes.
        len: u64,
    },
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// There is no such kind of message in this direction.
    #[error("there is no message of kind {0:#04x} in this direction")]
    UnknownKind(u8),
    /// The payload ends before the message does.
    #[error("a message of kind {kind:#04x} ends in the middle of a field")]
    Truncated {
        /// The frame's kind.
        kind: u8,
    },
    /// The message ends before the payload does.
    #[error("a message of kind {kind:#04x} is followed by {extra} bytes that do not belong to it")]
    TrailingBytes {
        /// The frame's kind.
        kind: u8,
        /// How many bytes are left.
        extra: usize,
    },
    /// A string is not UTF-8.
    #[error("a string in a message of kind {kind:#04x} is not UTF-8")]
    NotUtf8 {
        /// The frame's kind.
        kind: u8,
    },
    /// A field has a value without a meaning.
    #[error("a message of kind {kind:#04x} has {value} as its {field}, which means nothing")]
    BadValue {
        /// The frame's kind.
        kind: u8,
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The first message does not begin as a `Hello` does: whoever is there does not speak this
    /// protocol.
    #[error("this is not the pfs protocol")]
    BadMagic,
    /// The message is well formed, but its path is not one that a stream can have.
    #[error("bad path: {0}")]
    Path(PathError),
}

// Not by the derive, which would make the cause, which the message has, a source that a chain of
// errors prints once more.
impl From<PathError> for MessageError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl MessageError {
    /// What to tell the peer that sent it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Path(_) => ErrorCode::BadPath,
            _ => ErrorCode::Protocol,
        }
    }
}

/// Why a string is not the path of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It is the empty string.
    #[error("it is empty; a path looks like /streamfs/cam")]
    Empty,
    /// It does not begin with a slash.
    #[error("it does not begin with '/'; a path looks like /streamfs/cam")]
    NotAbsolute,
    /// It is longer than [`MAX_PATH`](crate::MAX_PATH) bytes.
    #[error("it is longer than {MAX_PATH} bytes")]
    TooLong,
    /// There is nothing between two slashes, or behind the last one.
    #[error("one of its segments is empty; write single slashes, and none at the end")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("it has '.' or '..' as a segment; write out the whole path")]
    DotSegment,
    /// It has a control or format character.
    #[error("{0}, which no name may have")]
    Unprintable(Unprintable),
    /// A segment begins or ends with a blank, which a reader cannot see.
    #[error("one of its segments begins or ends with a blank; blanks may only be inside")]
    EdgeBlank,
    /// It is only a mount, and a stream has a name below that.
    #[error("it names no stream; a path is a mount and a name, such as /streamfs/cam")]
    NoName,
}

impl From<Infallible> for PathError {
    /// A path that is one already.
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_a_number_of_its_own_and_unknown_ones_are_kept() {
        for number in 0..=u16::MAX {
            let code = ErrorCode::from(number);
            assert_eq!(u16::from(code), number);
            assert_eq!(matches!(code, ErrorCode::Unknown(_)), !(1..=19).contains(&number));
        }
    }
}
