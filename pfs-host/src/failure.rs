//! Why a request was refused, in the words that the client gets.

use std::io;

use pfs_proto::{ErrorCode, FrameError, MessageError, Reply, StreamPath};
use pfs_stream::{AppendError, AttachError, CreateError, ReadError};

/// A refusal: what was tried, on what, what went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What programs tell it by.
    pub code: ErrorCode,
    /// What people read.
    pub message: String,
}

impl Failure {
    /// A refusal in these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The frame that tells the client.
    pub fn reply(self) -> Reply {
        Reply::Error { code: self.code, message: self.message }
    }

    /// There is no stream of this path.
    pub fn no_such_stream(path: &str) -> Self {
        let mount = path.match_indices('/').nth(1).and_then(|(at, _)| path.get(..at)).unwrap_or(path);
        Self::new(
            ErrorCode::NoSuchStream,
            format!("there is no stream {path}; pfs ls {mount} shows those there are"),
        )
    }

    /// The daemon ends.
    pub fn going_away() -> Self {
        Self::new(ErrorCode::GoingAway, "the daemon is shutting down, and its streams end with it")
    }

    /// A stream cannot be made.
    pub fn creating(path: &StreamPath, error: &CreateError) -> Self {
        let (code, advice) = match error {
            CreateError::Exists => (
                ErrorCode::AlreadyExists,
                "; pfs create --exist-ok keeps it, --replace begins anew (?replace over HTTP)",
            ),
            CreateError::TooManyStreams { .. } => {
                (ErrorCode::Limit, "; remove streams with pfs rm, or raise limits.max_streams of the daemon")
            }
            CreateError::TooMuchMemory { .. } => (
                ErrorCode::Limit,
                "; remove streams with pfs rm, ask for smaller buffers, or raise limits.max_memory of the daemon",
            ),
            CreateError::BadSize { .. } => (ErrorCode::BadOption, ""),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("cannot create {path}: {error}{advice}"))
    }

    /// A reader or writer cannot be attached; `tried` is what could not be done, such as "cannot read".
    pub fn attaching(tried: &str, path: &StreamPath, error: AttachError) -> Self {
        let (code, advice) = match error {
            AttachError::Closed => {
                (ErrorCode::Closed, "; to begin anew: pfs write --replace, or ?replace over HTTP")
            }
            AttachError::Removed => (ErrorCode::Removed, ""),
            AttachError::PastHead { .. } => (ErrorCode::PastHead, "; pfs stat shows what there is"),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("{tried} {path}: {error}{advice}"))
    }

    /// A stream is to be kept, and takes no appends.
    pub fn kept_closed(path: &StreamPath) -> Self {
        let message =
            format!("cannot create {path}: there is one, and it is closed; pfs create --replace begins anew");
        Self::new(ErrorCode::Closed, message)
    }

    /// A stream cannot be closed as failed any more: its readers may have come to the end that it has.
    pub fn closed_before(path: &StreamPath) -> Self {
        let message = format!("cannot close {path} as failed: it is closed already, and not as failed");
        Self::new(ErrorCode::Closed, message)
    }

    /// A chunk cannot be appended.
    pub fn appending(path: &StreamPath, error: AppendError) -> Self {
        let (code, advice) = match error {
            AppendError::Closed => (ErrorCode::Closed, ""),
            AppendError::Removed => (ErrorCode::Removed, ""),
            AppendError::TooLarge { .. } | AppendError::TooMany { .. } => (
                ErrorCode::TooLarge,
                "; write smaller chunks (pfs write --stream), or create the stream with larger buffers",
            ),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("cannot append to {path}: {error}{advice}"))
    }

    /// A reader cannot go on.
    pub fn reading(path: &StreamPath, error: ReadError) -> Self {
        let (code, advice) = match error {
            ReadError::Removed => (ErrorCode::Removed, ""),
            ReadError::TooSlow { .. } => (
                ErrorCode::TooSlow,
                "; read faster, give the stream larger buffers, or use --slow drop or block",
            ),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("cannot go on reading {path}: {error}{advice}"))
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::new(ErrorCode::Protocol, error.to_string())
    }
}

/// How a connection ended before its work was done.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client went away; nobody is there to be told anything.
    Gone,
    /// The daemon is ending, and the client does not read what it was sent before, so it cannot be told.
    Stuck,
    /// The client is told why, and the connection is closed.
    Refused(Failure),
}

impl Ended {
    /// What the log says about it.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Gone => "the client went away",
            Self::Stuck => "the daemon is shutting down, and the client did not read",
            Self::Refused(failure) => &failure.message,
        }
    }
}

impl From<io::Error> for Ended {
    /// On a local socket every error means that the other end is gone.
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl<F: Into<Failure>> From<F> for Ended {
    fn from(failure: F) -> Self {
        Self::Refused(failure.into())
    }
}
