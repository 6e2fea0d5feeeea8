//! Why a request was refused, in the words that the client gets.

use std::io;

use pfs_proto::{ErrorCode, FrameError, MessageError, Reply, StreamPath};
use pfs_stream::{AttachError, CreateError, ReadError, WriteError};

use crate::{owner::Owner, refusals::Reason};

/// A refusal: what was tried, on what, what went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What programs tell it by.
    pub code: ErrorCode,
    /// What people read.
    pub message: String,
    /// Why it is counted as a refusal; `None` for other errors.
    pub reason: Option<Reason>,
}

impl Failure {
    /// A refusal in these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: Reason::from_code(code) }
    }

    /// The same, counted as a refusal for this reason.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The frame that tells the client.
    pub fn reply(self) -> Reply {
        Reply::Error { code: self.code, message: self.message }
    }

    /// There is no stream of this path.
    pub fn no_such_stream(path: &str) -> Self {
        let mount =
            path.match_indices('/').nth(1).and_then(|(at, _)| path.get(..at)).unwrap_or(path);
        Self::new(
            ErrorCode::NoSuchStream,
            format!("there is no stream {path}; pfs ls {mount} shows those there are"),
        )
    }

    /// The daemon ends.
    pub fn shutting_down() -> Self {
        Self::new(
            ErrorCode::ShuttingDown,
            "the daemon is shutting down, and its streams end with it",
        )
    }

    /// There is a stream of this path already.
    pub fn already_exists(path: &StreamPath) -> Self {
        let message = format!(
            "cannot create {path}: {}; pfs create --exist-ok keeps it, --replace begins anew (?replace over HTTP)",
            CreateError::Exists
        );
        Self::new(ErrorCode::AlreadyExists, message)
    }

    /// A stream cannot be made for this owner.
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

    /// A stream would take more than the quota of its owner.
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

    /// A reader or writer cannot be attached; `tried` is what could not be done, such as "cannot
    /// read".
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
        let message = format!(
            "cannot create {path}: there is one, and it is closed; pfs create --replace begins anew"
        );
        Self::new(ErrorCode::Closed, message)
    }

    /// A stream cannot be closed as failed any more: its readers may have come to the end that it
    /// has.
    pub fn closed_before(path: &StreamPath) -> Self {
        let message =
            format!("cannot close {path} as failed: it is closed already, and not as failed");
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
    /// The client is cut off, because the daemon shuts down or its token was revoked, and does not
    /// read what it was sent before, so it cannot be told.
    Stuck,
    /// The client is told why, and the connection is closed.
    Refused(Failure),
    /// The client has stopped the daemon, and learns from the end of its connection that the daemon
    /// has ended.
    Stopped,
}

impl Ended {
    /// What the log says about it.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Gone => "the client went away",
            Self::Stuck => "the client was cut off, and did not read why",
            Self::Refused(failure) => &failure.message,
            Self::Stopped => "the client stopped the daemon",
        }
    }
}

impl From<io::Error> for Ended {
    /// On a local socket every error means that the other end is gone. A client that a transport
    /// has given up ([`TimedOut`](io::ErrorKind::TimedOut)) may still be there, and is told.
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
