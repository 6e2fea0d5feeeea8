//! What can go wrong, one enum for each thing that a program does.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use pfs_proto::{ErrorCode, FrameError, MessageError, PathError, VERSION};
use pfs_stream::{Cause, ReadError, WriteError};
use thiserror::Error;

#[cfg(feature = "http")]
use crate::ProxyBroke;
use crate::lookup::NotFound;

/// Why there is no connection to a daemon.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no daemon answers on {}", .path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Nobody listens at any of the places where a daemon was looked for.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The system refused to connect.
    #[error("cannot connect to {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Nobody answers at a URL, or only a proxy that finds no daemon behind it.
    #[error("no daemon answers at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system or the proxy said.
        source: Arc<io::Error>,
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
    /// What answers at a URL passes no answer on before the request has ended: a writer would not
    /// hear what becomes of its
    /// chunks. [`Client::with_half_duplex`](crate::Client::with_half_duplex) makes do with that
    /// where it is possible.
    #[error("{url} passes no answer on before a request has ended, as writers need it; {remedy}")]
    HalfDuplex {
        /// Where.
        url: String,
        /// What may help.
        remedy: &'static str,
    },
    /// Somebody listens there, but did not answer in time.
    #[error("the daemon did not answer within {after:?}")]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// The daemon speaks an older version of the protocol.
    #[error(
        "pfsd {version} (pid {pid}) is older than this program: it speaks version {protocol} of the protocol, and pfs-client {own} \
         version {VERSION}", own = env!("CARGO_PKG_VERSION")
    )]
    Older {
        /// The version of the daemon, as `pfsd --version` prints it.
        version: String,
        /// The daemon's process id.
        pid: u32,
        /// The version of the protocol that it speaks.
        protocol: u16,
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
    Lost(#[source] Arc<io::Error>),
    /// This system refused what a connection needs.
    #[error("the system refused what a connection needs")]
    System(#[source] Arc<io::Error>),
    /// Whoever answered does not speak the protocol.
    #[error("what answered is not a daemon of pfs")]
    Protocol(#[from] ProtocolError),
}

/// Why a request was not done.
#[derive(Clone, Debug, Error)]
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
    Lost(#[source] Arc<io::Error>),
    /// What the daemon said makes no sense.
    #[error("the daemon broke the protocol")]
    Protocol(#[source] ProtocolError),
    /// It was about no path that a stream can have, and the daemon was not asked.
    #[error("this is no path of a stream: {0}")]
    Path(PathError),
    /// A new connection was needed and could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
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
    /// Its count of the chunks that were appended under a lease is wrong. Another process may have
    /// written to the ring.
    #[error(
        "it counts {said} chunks that were appended under a lease, and the writer appended {counted}"
    )]
    Lease {
        /// What it says.
        said: u64,
        /// What was appended.
        counted: u64,
    },
    /// Another process appends to the ring that it leased to this writer.
    #[error("another process appends to the ring that it leased to this writer")]
    OtherWriter,
}

impl RequestError {
    /// The kind of failure, if the daemon told it.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Daemon { code, .. } | Self::Connect(ConnectError::Refused { code, .. }) => {
                Some(*code)
            }
            _ => None,
        }
    }

    /// What a daemon answers that does not do what was asked.
    pub(crate) fn refused(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::ShuttingDown => Self::Lost(shutting_down(message).into()),
            _ => Self::Daemon { code, message: or_code(message, code) },
        }
    }

    /// What was here had no place; this would have had.
    pub(crate) fn unexpected(expected: &'static str) -> Self {
        Self::Protocol(ProtocolError::Unexpected { expected })
    }
}

impl From<io::Error> for RequestError {
    /// The connection broke.
    fn from(error: io::Error) -> Self {
        Self::Lost(Arc::new(error))
    }
}

impl<E: Into<ProtocolError>> From<E> for RequestError {
    fn from(error: E) -> Self {
        Self::Protocol(error.into())
    }
}

impl From<RequestError> for ConnectError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Daemon { code, message } => Self::Refused { code, message },
            RequestError::Lost(error) => Self::Lost(error),
            RequestError::Protocol(error) => Self::Protocol(error),
            RequestError::Connect(error) => error,
            // Connecting takes no path of a stream, so this does not come up.
            RequestError::Path(error) => {
                Self::Refused { code: ErrorCode::BadPath, message: error.to_string() }
            }
        }
    }
}

impl From<RequestError> for WriteError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Daemon { code: ErrorCode::Closed, .. } => Self::Closed,
            RequestError::Daemon { code: ErrorCode::Removed, .. } => Self::Removed,
            RequestError::Lost(error) => Self::DaemonGone(lost(error)),
            #[cfg(feature = "http")]
            RequestError::Connect(error) => Self::DaemonGone(Cause::new(ProxyBroke::from(&error))),
            error => Self::Other(Cause::new(error)),
        }
    }
}

impl From<RequestError> for ReadError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Daemon { code: ErrorCode::Removed, .. } => Self::Removed,
            RequestError::Daemon { code: ErrorCode::TooSlow, .. } => Self::TooSlow { lag: None },
            RequestError::Lost(error) => Self::DaemonGone(lost(error)),
            RequestError::Connect(error) => Self::DaemonGone(Cause::new(error)),
            error => Self::Other(Cause::new(error)),
        }
    }
}

impl From<ProtocolError> for WriteError {
    fn from(error: ProtocolError) -> Self {
        RequestError::from(error).into()
    }
}

impl From<ProtocolError> for ReadError {
    fn from(error: ProtocolError) -> Self {
        RequestError::from(error).into()
    }
}

/// How the connection broke: by a proxy, if it is known to have been one.
fn lost(error: Arc<io::Error>) -> Cause {
    #[cfg(feature = "http")]
    if let Some(broke) = error.get_ref().and_then(|inner| inner.downcast_ref::<ProxyBroke>()) {
        return Cause::new(broke.clone());
    }
    error.into()
}

/// That the daemon has said itself that it is going.
fn shutting_down(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, or_code(message, ErrorCode::ShuttingDown))
}

/// The daemon's message, or what its code means if it has none.
fn or_code(message: String, code: ErrorCode) -> String {
    if message.is_empty() { code.to_string() } else { message }
}
