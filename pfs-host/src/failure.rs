//! Failure: the error code and message that a client gets. [`Ended`]: why a connection ended early.

use std::io;

use pfs_proto::{ErrorCode, FrameError, MessageError, Reply, StreamPath};
use pfs_stream::{AttachError, CreateError, ReadError, WriteError};

use crate::{owner::Owner, refusals::Reason};

/// An error for a client. The message says what was tried, on which object, what went wrong and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Error code, for programs.
    pub code: ErrorCode,
    /// Message, for people.
    pub message: String,
    /// The reason under which the failure is counted as a refusal; `None` for other errors.
    pub reason: Option<Reason>,
}

impl Failure {
    /// Creates a failure. Some codes imply a reason for the counter of refusals.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: Reason::from_code(code) }
    }

    /// Sets the reason under which the failure is counted as a refusal.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Converts the failure to the frame that tells the client.
    pub fn reply(self) -> Reply {
        Reply::Error { code: self.code, message: self.message }
    }

    /// The path has no stream.
    pub fn no_such_stream(path: &str) -> Self {
        let mount =
            path.match_indices('/').nth(1).and_then(|(at, _)| path.get(..at)).unwrap_or(path);
        Self::new(
            ErrorCode::NoSuchStream,
            format!("there is no stream {path}; pfs ls {mount} lists the streams"),
        )
    }

    /// The daemon is shutting down.
    pub fn shutting_down() -> Self {
        Self::new(
            ErrorCode::ShuttingDown,
            "the daemon is shutting down, and its streams end with it",
        )
    }

    /// The path already has a stream.
    pub fn already_exists(path: &StreamPath) -> Self {
        let message = format!(
            "cannot create {path}: {}; pfs create --exist-ok keeps the stream, --replace starts over (?replace over HTTP)",
            CreateError::Exists
        );
        Self::new(ErrorCode::AlreadyExists, message)
    }

    /// A stream cannot be created for this owner.
    pub(crate) fn creating(path: &StreamPath, owner: Owner, error: &CreateError) -> Self {
        let (code, advice) = match error {
            CreateError::Exists => return Self::already_exists(path),
            CreateError::QuotaOfStreams { .. } | CreateError::QuotaOfMemory { .. } => {
                return Self::over_quota(path, owner, error);
            }
            CreateError::TooManyStreams { .. } => (
                ErrorCode::Limit,
                "; remove streams with pfs rm, or raise limits.max_streams of the daemon",
            ),
            CreateError::TooMuchMemory { .. } => (
                ErrorCode::Limit,
                "; remove streams with pfs rm, ask for smaller buffers, or raise limits.max_memory of the daemon",
            ),
            CreateError::BadSize { .. } => (ErrorCode::BadOption, ""),
            _ => (ErrorCode::Internal, ""),
        };
        let failure = Self::new(code, format!("cannot create {path}: {error}{advice}"));
        match error {
            CreateError::TooManyStreams { .. } => failure.because(Reason::Streams),
            CreateError::TooMuchMemory { .. } => failure.because(Reason::StreamMemory),
            _ => failure,
        }
    }

    /// A stream would exceed the quota of its owner.
    fn over_quota(path: &StreamPath, owner: Owner, error: &CreateError) -> Self {
        let kind = if matches!(owner, Owner::User(_)) { "user" } else { "token" };
        let (smaller, key) = match error {
            CreateError::QuotaOfMemory { .. } => (", ask for smaller buffers", "memory"),
            _ => ("", "streams"),
        };
        let message = format!(
            "cannot create {path} for {owner}: {error}; remove streams of this {kind} with pfs rm{smaller}, or raise \
             limits.max_{key}_per_{kind} of the daemon"
        );
        Self::new(ErrorCode::Limit, message).because(Reason::Quota)
    }

    /// A reader or writer cannot be attached. `tried` is the operation, such as "cannot read".
    pub fn attaching(tried: &str, path: &StreamPath, error: AttachError) -> Self {
        let (code, advice) = match error {
            AttachError::Closed => {
                (ErrorCode::Closed, "; to start over: pfs write --replace, or ?replace over HTTP")
            }
            AttachError::Removed => (ErrorCode::Removed, ""),
            AttachError::PastHead { .. } => (ErrorCode::PastHead, "; pfs stat shows the offsets"),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("{tried} {path}: {error}{advice}"))
    }

    /// The existing stream should be kept, but is closed.
    pub fn kept_closed(path: &StreamPath) -> Self {
        let message = format!(
            "cannot create {path}: the stream exists and is closed; pfs create --replace starts over"
        );
        Self::new(ErrorCode::Closed, message)
    }

    /// A stream cannot be closed as failed, because it is closed already: readers may have reached
    /// its proper end.
    pub fn closed_before(path: &StreamPath) -> Self {
        let message = format!(
            "cannot close {path} as failed: the stream is already closed, and not as failed"
        );
        Self::new(ErrorCode::Closed, message)
    }

    /// A chunk cannot be appended.
    pub fn appending(path: &StreamPath, error: WriteError) -> Self {
        let (code, advice) = match error {
            WriteError::Closed => (ErrorCode::Closed, ""),
            WriteError::Removed => (ErrorCode::Removed, ""),
            WriteError::NoMemory { .. } => {
                let advice = "remove streams with pfs rm, or raise limits.max_memory of the daemon or the quota";
                let message = format!("cannot append to {path}: {error}; {advice}");
                return Self::new(ErrorCode::Limit, message).because(Reason::StreamMemory);
            }
            WriteError::TooLarge { .. } | WriteError::TooMany { .. } => (
                ErrorCode::TooLarge,
                "; write smaller chunks (pfs write --stream), or create the stream with larger buffers",
            ),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("cannot append to {path}: {error}{advice}"))
    }

    /// A reader cannot continue.
    pub fn reading(path: &StreamPath, error: ReadError) -> Self {
        let (code, advice) = match error {
            ReadError::Removed => (ErrorCode::Removed, ""),
            ReadError::TooSlow { .. } => (
                ErrorCode::TooSlow,
                "; read faster, give the stream larger buffers, or use --slow drop or block",
            ),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("cannot continue reading {path}: {error}{advice}"))
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

/// Why a connection ended before its work was done.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client is gone, so it gets no error.
    Gone,
    /// The client is cut off, because the daemon shuts down or the client's token was revoked. The
    /// client does not read what was sent before, so it gets no error.
    Stuck,
    /// The client gets the error, and the connection is closed.
    Refused(Failure),
    /// The client has stopped the daemon. The end of its connection tells it that the daemon
    /// has ended.
    Stopped,
}

impl Ended {
    /// The reason as the log shows it.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Gone => "the client went away",
            Self::Stuck => "the client was cut off and did not read the reason",
            Self::Refused(failure) => &failure.message,
            Self::Stopped => "the client stopped the daemon",
        }
    }
}

impl From<io::Error> for Ended {
    /// On a local socket, every error means that the client is gone. If the transport gave up on
    /// the client ([`TimedOut`](io::ErrorKind::TimedOut)), the client may still be connected, and
    /// gets the error.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Failure::new(ErrorCode::Timeout, error.to_string()).into(),
            _ => Self::Gone,
        }
    }
}

impl<F: Into<Failure>> From<F> for Ended {
    fn from(failure: F) -> Self {
        Self::Refused(failure.into())
    }
}
