//! Errors, one enum per operation: connecting, requests and the protocol.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use pfs_proto::{ErrorCode, FrameError, MessageError, PathError, VERSION};
use pfs_stream::{Cause, ReadError, WriteError};
use thiserror::Error;

#[cfg(feature = "http")]
use crate::ProxyBroke;
use crate::lookup::NotFound;

/// Why connecting to a daemon failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No process listens on the socket.
    #[error("no daemon answers on {}", .path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// No daemon answers at any of the places that the lookup tried.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The system refused to connect.
    #[error("cannot connect to {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// Nothing answers at the URL, or only a proxy that reaches no daemon.
    #[error("no daemon answers at {url}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The error of the system or of the proxy.
        source: Arc<io::Error>,
    },
    /// No secure connection to the URL is possible.
    #[error("cannot make a secure connection to {url}: {reason}")]
    Untrusted {
        /// The URL.
        url: String,
        /// The reason that TLS gave.
        reason: String,
    },
    /// The server at the URL refused the connection.
    #[error("cannot use {url}: {message}")]
    Rejected {
        /// The URL.
        url: String,
        /// The HTTP status: 401 for a missing or unknown token.
        status: u16,
        /// The reason.
        message: String,
    },
    /// The server at the URL forwards no response before the request has ended, so a writer would
    /// not learn what happens to its chunks. Where possible,
    /// [`Client::with_half_duplex`](crate::Client::with_half_duplex) writes without
    /// acknowledgements.
    #[error(
        "{url} forwards no answer before a request has ended, but writers need earlier answers; {remedy}"
    )]
    HalfDuplex {
        /// The URL.
        url: String,
        /// A possible remedy.
        remedy: &'static str,
    },
    /// A daemon listens there but did not answer in time.
    #[error("the daemon did not answer within {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The daemon speaks only an older version of the protocol.
    #[error(
        "pfsd {version} (pid {pid}) is older than this program: it speaks version {protocol} of the protocol, and pfs-client {own} \
         speaks version {VERSION}", own = env!("CARGO_PKG_VERSION")
    )]
    Older {
        /// The version of the daemon, as `pfsd --version` prints it.
        version: String,
        /// The daemon's process id.
        pid: u32,
        /// The protocol version that the daemon speaks.
        protocol: u16,
    },
    /// The daemon and this library share no protocol version.
    #[error("{message}")]
    Version {
        /// The versions that the two sides speak.
        message: String,
    },
    /// The daemon refused the connection, for example because it has too many.
    #[error("the daemon refused the connection: {message}")]
    Refused {
        /// The kind of failure.
        code: ErrorCode,
        /// The daemon's message.
        message: String,
    },
    /// The daemon went away before it answered.
    #[error("the daemon went away while the connection was opened")]
    Lost(#[source] Arc<io::Error>),
    /// The system refused a resource that the connection needs.
    #[error("the system refused a resource that the connection needs")]
    System(#[source] Arc<io::Error>),
    /// The other side does not speak the protocol.
    #[error("the server is not a pfs daemon")]
    Protocol(#[from] ProtocolError),
}

/// Why a request failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The daemon refused the request.
    #[error("{message}")]
    Daemon {
        /// The kind of failure.
        code: ErrorCode,
        /// The daemon's message: the operation, its object, the reason and the remedy.
        message: String,
    },
    /// The daemon went away. It may or may not have carried out the request.
    #[error("the daemon went away")]
    Lost(#[source] Arc<io::Error>),
    /// The daemon broke the protocol.
    #[error("the daemon broke the protocol")]
    Protocol(#[source] ProtocolError),
    /// The daemon is older than this library, and does not support something.
    #[error("the daemon is older than this program, and does not support {feature}; update pfsd")]
    Unsupported {
        /// What the daemon does not support.
        feature: &'static str,
    },
    /// The path is not a valid stream path. The daemon was not asked.
    #[error("this is not the path of a stream: {0}")]
    Path(PathError),
    /// The request needed a new connection, and connecting failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// How the other side broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frames are not messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The message is not valid in this state.
    #[error("another message arrived instead of {expected}")]
    Unexpected {
        /// The message that was expected.
        expected: &'static str,
    },
    /// The daemon's offset differs from the client's count. The data read so far is unreliable.
    #[error("the daemon reports offset {said}, but the client counts offset {counted}")]
    Offset {
        /// The offset according to the daemon.
        said: u64,
        /// The offset according to the data that the daemon sent.
        counted: u64,
    },
    /// The parts of one chunk add up to more bytes than the client assembles.
    #[error(
        "the daemon sent a chunk of more than {most} bytes; plain HTTP and readers that share memory accept larger chunks"
    )]
    TooLarge {
        /// The maximum, in bytes.
        most: usize,
    },
    /// The daemon acknowledged fewer chunks than before, or more than were sent.
    #[error("the daemon acknowledges {said} of {sent} sent chunks, after {before} before")]
    Ack {
        /// The acknowledged number of chunks.
        said: u64,
        /// The number acknowledged before.
        before: u64,
        /// The number of chunks sent.
        sent: u64,
    },
    /// The daemon's count of the chunks appended under a lease is wrong. Another process may have
    /// written to the ring buffer.
    #[error("the daemon counts {said} chunks under a lease, but the writer appended {counted}")]
    Lease {
        /// The daemon's count.
        said: u64,
        /// The writer's count.
        counted: u64,
    },
    /// Another process appends to the ring buffer while this writer holds the lease.
    #[error("another process appends to the ring that the daemon leased to this writer")]
    OtherWriter,
}

impl RequestError {
    /// The daemon's error code, if the daemon sent one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Daemon { code, .. } | Self::Connect(ConnectError::Refused { code, .. }) => {
                Some(*code)
            }
            _ => None,
        }
    }

    /// Converts the daemon's error reply. `ShuttingDown` becomes
    /// [`RequestError::Lost`](Self::Lost).
    pub(crate) fn refused(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::ShuttingDown => Self::Lost(shutting_down(message).into()),
            _ => Self::Daemon { code, message: or_code(message, code) },
        }
    }

    /// A protocol error: another message than `expected` arrived.
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
            // Connecting uses no stream path and no such feature, so these arms are never reached.
            RequestError::Path(error) => {
                Self::Refused { code: ErrorCode::BadPath, message: error.to_string() }
            }
            error @ RequestError::Unsupported { .. } => {
                Self::Refused { code: ErrorCode::Protocol, message: error.to_string() }
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

/// The cause of a broken connection: a `ProxyBroke` if a known proxy broke it.
fn lost(error: Arc<io::Error>) -> Cause {
    #[cfg(feature = "http")]
    if let Some(broke) = error.get_ref().and_then(|inner| inner.downcast_ref::<ProxyBroke>()) {
        return Cause::new(broke.clone());
    }
    error.into()
}

/// The error for a daemon that announced its shutdown.
fn shutting_down(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, or_code(message, ErrorCode::ShuttingDown))
}

/// The daemon's message, or the meaning of its code if the message is empty.
fn or_code(message: String, code: ErrorCode) -> String {
    if message.is_empty() { code.to_string() } else { message }
}
