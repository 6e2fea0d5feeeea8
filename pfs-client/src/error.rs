//! What can go wrong, one enum for each thing that a program does.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pfs_proto::{ErrorCode, FrameError, MessageError};
use thiserror::Error;

/// Why there is no connection to a daemon.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no daemon answers on {}", .path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to connect.
    #[error("cannot connect to {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers at a URL, or only a proxy that finds no daemon behind it.
    #[error("no daemon answers at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system or the proxy said.
        source: io::Error,
    },
    /// No connection to a URL can be made that is safe.
    #[error("cannot make a secure connection to {url}: {reason}")]
    Untrusted {
        /// Where.
        url: String,
        /// What TLS said.
        reason: String,
    },
    /// What answers at a URL opens no connection.
    #[error("cannot use {url}: {message}")]
    Rejected {
        /// Where.
        url: String,
        /// The status, as HTTP has it: 401 for a token that is missing or not known.
        status: u16,
        /// Why.
        message: String,
    },
    /// Somebody listens there, but did not answer in time.
    #[error("the daemon did not answer within {after:?}")]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// The daemon speaks no version of the protocol that this library speaks.
    #[error("{message}")]
    Version {
        /// Which versions there are.
        message: String,
    },
    /// The daemon does not want this connection, for example because it has too many.
    #[error("the daemon refused the connection: {message}")]
    Refused {
        /// The kind of failure.
        code: ErrorCode,
        /// What the daemon said.
        message: String,
    },
    /// The daemon went away before it answered.
    #[error("the daemon went away while it was connected to")]
    Lost(#[source] io::Error),
    /// This system refused what a connection needs.
    #[error("the system refused what a connection needs")]
    System(#[source] io::Error),
    /// Whoever answered does not speak the protocol.
    #[error("what answered is not a daemon of pfs")]
    Protocol(#[from] ProtocolError),
}

/// Why a request was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The daemon says so.
    #[error("{message}")]
    Daemon {
        /// The kind of failure.
        code: ErrorCode,
        /// What was tried, on what, what went wrong and what to do.
        message: String,
    },
    /// The daemon went away. Whether it has done what was asked is not known.
    #[error("the daemon went away")]
    Lost(#[source] io::Error),
    /// What the daemon said makes no sense.
    #[error("the daemon broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// A new connection was needed and could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Why a writer cannot go on. Chunks that were not acknowledged may be in the stream or not; each is in it whole or
/// not at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The chunk is larger than the stream takes. Nothing of it was sent, and the writer can go on.
    #[error("a chunk of {size} bytes is larger than the {max} that this stream takes at once")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The most that the stream takes, in bytes.
        max: u64,
    },
    /// The stream was closed.
    #[error("{message}")]
    Closed {
        /// What the daemon said.
        message: String,
    },
    /// The stream was removed.
    #[error("{message}")]
    Removed {
        /// What the daemon said.
        message: String,
    },
    /// The daemon says that something else is wrong.
    #[error("{message}")]
    Daemon {
        /// The kind of failure.
        code: ErrorCode,
        /// What was tried, on what, what went wrong and what to do.
        message: String,
    },
    /// The daemon went away.
    #[error("the daemon went away")]
    DaemonGone(#[source] io::Error),
    /// What the daemon said makes no sense.
    #[error("the daemon broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// Why a reader's stream broke off. None of these is the end of the stream.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream was removed.
    #[error("{message}")]
    Removed {
        /// What the daemon said.
        message: String,
    },
    /// The reader was disconnected for being slow, as its policy asked for.
    #[error("{message}")]
    TooSlow {
        /// What the daemon said.
        message: String,
    },
    /// The daemon went away.
    #[error("the daemon went away")]
    DaemonGone(#[source] io::Error),
    /// The daemon says that something else is wrong.
    #[error("{message}")]
    Daemon {
        /// The kind of failure.
        code: ErrorCode,
        /// What was tried, on what, what went wrong and what to do.
        message: String,
    },
    /// What was written to a file from where it was ([`Reader::try_write_to`](crate::Reader::try_write_to)) was overwritten
    /// meanwhile: the daemon did not wait for this reader, as it should have.
    #[error(
        "bytes {from}..{to} were overwritten while they were written out, and what was written may be wrong there"
    )]
    Overtaken {
        /// The offset of the first byte that may be wrong.
        from: u64,
        /// The offset after the last one.
        to: u64,
    },
    /// This system refused what reading needs.
    #[error("the system refused what reading needs")]
    System(#[source] io::Error),
    /// What the daemon said makes no sense.
    #[error("the daemon broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// How the other end broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Its bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its frames are not messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Its message has no place here.
    #[error("it sent something else instead of {expected}")]
    Unexpected {
        /// What would have had its place here.
        expected: &'static str,
    },
    /// It lost count of the offsets. What was read until now cannot be relied on.
    #[error("it says that this is offset {said}, and it is {counted}")]
    Offset {
        /// Where it says that this is.
        said: u64,
        /// Where this is by what it sent before.
        counted: u64,
    },
    /// It sent parts of a chunk that add up to more than a client gathers.
    #[error(
        "it sent a chunk of more than {most} bytes; plain HTTP and readers that share memory take larger ones"
    )]
    TooLarge {
        /// The most that is gathered, in bytes.
        most: usize,
    },
    /// It acknowledged fewer chunks than before, or more than were sent.
    #[error("it acknowledges {said} chunks, after {before}, of {sent} that were sent")]
    Ack {
        /// What it acknowledges.
        said: u64,
        /// What it acknowledged before.
        before: u64,
        /// What was sent.
        sent: u64,
    },
}

/// How a connection broke, whatever it was used for.
#[derive(Debug)]
pub(crate) enum Broken {
    Gone(io::Error),
    /// It never came about.
    Connect(ConnectError),
    Protocol(ProtocolError),
}

impl<E: Into<ProtocolError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Protocol(error.into())
    }
}

impl RequestError {
    /// The kind of failure, if the daemon told it.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Daemon { code, .. } | Self::Connect(ConnectError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }

    /// What an `Error` reply means to a request.
    pub(crate) fn told(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::GoingAway => Self::Lost(going_away(message)),
            _ => Self::Daemon { code, message: or_code(message, code) },
        }
    }
}

impl WriteError {
    /// What an `Error` reply means to a writer.
    pub(crate) fn told(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::GoingAway => Self::DaemonGone(going_away(message)),
            ErrorCode::Closed => Self::Closed { message: or_code(message, code) },
            ErrorCode::Removed => Self::Removed { message: or_code(message, code) },
            _ => Self::Daemon { code, message: or_code(message, code) },
        }
    }

    /// The same again, for whoever asks again.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::TooLarge { size, max } => Self::TooLarge { size: *size, max: *max },
            Self::Closed { message } => Self::Closed { message: message.clone() },
            Self::Removed { message } => Self::Removed { message: message.clone() },
            Self::Daemon { code, message } => Self::Daemon { code: *code, message: message.clone() },
            Self::DaemonGone(error) => Self::DaemonGone(io::Error::new(error.kind(), error.to_string())),
            Self::Protocol(error) => Self::Protocol(error.clone()),
        }
    }
}

impl ReadError {
    /// What an `Error` reply means to a reader.
    pub(crate) fn told(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::GoingAway => Self::DaemonGone(going_away(message)),
            ErrorCode::Removed => Self::Removed { message: or_code(message, code) },
            ErrorCode::TooSlow => Self::TooSlow { message: or_code(message, code) },
            _ => Self::Daemon { code, message: or_code(message, code) },
        }
    }

    /// The same again, for whoever asks again.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Removed { message } => Self::Removed { message: message.clone() },
            Self::TooSlow { message } => Self::TooSlow { message: message.clone() },
            Self::Daemon { code, message } => Self::Daemon { code: *code, message: message.clone() },
            Self::DaemonGone(error) => Self::DaemonGone(io::Error::new(error.kind(), error.to_string())),
            Self::Overtaken { from, to } => Self::Overtaken { from: *from, to: *to },
            Self::System(error) => Self::System(io::Error::new(error.kind(), error.to_string())),
            Self::Protocol(error) => Self::Protocol(error.clone()),
        }
    }
}

impl From<Broken> for ConnectError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone(error) => Self::Lost(error),
            Broken::Connect(error) => error,
            Broken::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<Broken> for RequestError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone(error) => Self::Lost(error),
            Broken::Connect(error) => Self::Connect(error),
            Broken::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<Broken> for WriteError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone(error) => Self::DaemonGone(error),
            Broken::Connect(error) => Self::DaemonGone(io::Error::other(error)),
            Broken::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<Broken> for ReadError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone(error) => Self::DaemonGone(error),
            Broken::Connect(error) => Self::DaemonGone(io::Error::other(error)),
            Broken::Protocol(error) => Self::Protocol(error),
        }
    }
}

/// That the daemon has said itself that it is going.
fn going_away(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, or_code(message, ErrorCode::GoingAway))
}

/// The daemon's message, or what its code means if it has none.
fn or_code(message: String, code: ErrorCode) -> String {
    if message.is_empty() { code.to_string() } else { message }
}
