//! Exit codes of `pfs`, and the mapping from errors to exit codes.

use pfs_client::{Cause, ConnectError, ReadError, RequestError, WriteError, start::StartError};
use pfs_proto::ErrorCode;
use thiserror::Error;

/// Exit code of a run. Scripts rely on these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything that was asked for is done.
    Success,
    /// A failure without a code of its own.
    Failure,
    /// Wrong usage: the command line cannot be executed as it is.
    Usage,
    /// The stream does not exist.
    NoSuchStream,
    /// The run finished, but data was lost on the way.
    DataLost,
    /// No daemon answers, or it went away.
    NoDaemon,
    /// The reader was disconnected for being slow.
    TooSlow,
    /// The stream was removed while it was read.
    Removed,
    /// A writer died without finishing, or the stream was closed as failed.
    WriterDied,
    /// The stream is closed, or exists already.
    ClosedOrExists,
    /// The code that a shell would report: for the command of `pfs write -- COMMAND`, or for a
    /// signal that ended `pfs`.
    Command(u8),
}

impl ExitCode {
    /// Every code of `pfs` itself with its meaning, as printed in the man pages.
    pub const TABLE: [(Self, &'static str); 10] = [
        (Self::Success, "Done. For cat: everything from start to end was delivered."),
        (Self::Failure, "Any other failure."),
        (Self::Usage, "Wrong usage."),
        (Self::NoSuchStream, "No such stream."),
        (
            Self::DataLost,
            "Finished, but data was lost on the way; the ranges are on standard error.",
        ),
        (Self::NoDaemon, "No daemon answers, or the daemon went away."),
        (Self::TooSlow, "Disconnected for being slow (with --slow disconnect)."),
        (Self::Removed, "The stream was removed while it was read."),
        (
            Self::WriterDied,
            "A writer died or failed (with --until writers-gone), or the stream was closed as failed.",
        ),
        (Self::ClosedOrExists, "The stream is closed, or exists already."),
    ];

    /// Returns the number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NoSuchStream => 3,
            Self::DataLost => 4,
            Self::NoDaemon => 5,
            Self::TooSlow => 6,
            Self::Removed => 7,
            Self::WriterDied => 8,
            Self::ClosedOrExists => 9,
            Self::Command(code) => code,
        }
    }

    /// Returns the code with this number, if there is one in [`TABLE`](Self::TABLE).
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::TABLE.into_iter().map(|(code, _)| code).find(|code| code.number() == number)
    }

    /// Returns the code that a shell reports for a process that this signal ended: 128 plus
    /// its number.
    pub(crate) fn from_signal(signal: i32) -> Self {
        Self::Command(u8::try_from(signal).unwrap_or_default().saturating_add(128))
    }

    /// Returns the code of the first error in the chain that has one, otherwise
    /// [`Failure`](Self::Failure).
    pub fn from_error(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::from_cause).unwrap_or(Self::Failure)
    }

    fn from_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.code);
        }
        if let Some(error) = cause.downcast_ref::<RequestError>() {
            return Some(Self::from_request(error));
        }
        if let Some(error) = cause.downcast_ref::<ConnectError>() {
            return Some(Self::from_connect(error));
        }
        if let Some(error) = cause.downcast_ref::<StartError>() {
            return Some(Self::from_start(error));
        }
        if let Some(error) = cause.downcast_ref::<ReadError>() {
            return Some(Self::from_read(error));
        }
        cause.downcast_ref::<WriteError>().map(Self::from_write)
    }

    fn from_connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::NoDaemon { .. }
            | ConnectError::NotFound(_)
            | ConnectError::Unreachable { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::Lost(_) => Self::NoDaemon,
            ConnectError::Refused { code, .. } => Self::from_code(*code),
            _ => Self::Failure,
        }
    }

    fn from_start(error: &StartError) -> Self {
        match error {
            StartError::Connect(error) | StartError::Gone { source: error, .. } => {
                Self::from_connect(error)
            }
            StartError::Watch(_) => Self::Failure,
            _ => Self::NoDaemon,
        }
    }

    fn from_request(error: &RequestError) -> Self {
        match error {
            RequestError::Daemon { code, .. } => Self::from_code(*code),
            RequestError::Lost(_) => Self::NoDaemon,
            RequestError::Path(_) => Self::Usage,
            RequestError::Connect(error) => Self::from_connect(error),
            _ => Self::Failure,
        }
    }

    fn from_read(error: &ReadError) -> Self {
        match error {
            ReadError::Removed => Self::Removed,
            ReadError::TooSlow { .. } => Self::TooSlow,
            ReadError::DaemonGone(_) => Self::NoDaemon,
            ReadError::Other(cause) => Self::from_other(cause),
            _ => Self::Failure,
        }
    }

    fn from_write(error: &WriteError) -> Self {
        match error {
            WriteError::DaemonGone(_) => Self::NoDaemon,
            WriteError::Closed => Self::ClosedOrExists,
            WriteError::Other(cause) => Self::from_other(cause),
            _ => Self::Failure,
        }
    }

    fn from_other(cause: &Cause) -> Self {
        cause.downcast_ref().map_or(Self::Failure, Self::from_request)
    }

    fn from_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NoSuchStream => Self::NoSuchStream,
            ErrorCode::BadPath
            | ErrorCode::BadOption
            | ErrorCode::IsStream
            | ErrorCode::IsDocument => Self::Usage,
            ErrorCode::AlreadyExists | ErrorCode::Closed => Self::ClosedOrExists,
            ErrorCode::ShuttingDown | ErrorCode::Unreachable => Self::NoDaemon,
            ErrorCode::TooSlow => Self::TooSlow,
            _ => Self::Failure,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// An error with an exit code of its own and a complete message.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Failure {
    code: ExitCode,
    message: String,
}

impl Failure {
    /// Creates an error that prints `message` and ends `pfs` with `code`.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use pfs_client::lookup::Lookup;

    use super::*;

    fn lost() -> Arc<io::Error> {
        Arc::new(io::ErrorKind::UnexpectedEof.into())
    }

    fn told(code: ErrorCode) -> RequestError {
        RequestError::Daemon { code, message: String::new() }
    }

    #[test]
    fn a_daemon_that_does_not_start_exits_with_the_code_of_the_cause() {
        let gone = |source| StartError::Gone { socket: "/s".into(), source };
        let refused = ConnectError::Refused { code: ErrorCode::Limit, message: String::new() };
        for (error, code) in [
            (
                StartError::Spawn {
                    lookup: Lookup::new(None, 7),
                    program: "pfsd".into(),
                    error: lost(),
                },
                ExitCode::NoDaemon,
            ),
            (gone(ConnectError::Lost(lost())), ExitCode::NoDaemon),
            (gone(refused), ExitCode::Failure),
            (StartError::Watch(lost()), ExitCode::Failure),
        ] {
            let shown = error.to_string();
            assert_eq!(ExitCode::from_error(&error.into()), code, "{shown}");
        }
    }

    #[test]
    fn the_table_has_every_code_under_its_number() {
        for (number, (code, _)) in ExitCode::TABLE.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(ExitCode::from_number(code.number()), Some(code));
        }
    }

    #[test]
    fn a_refused_request_ends_with_the_code_of_its_reason() {
        for (code, exit) in [
            (ErrorCode::NoSuchStream, ExitCode::NoSuchStream),
            (ErrorCode::BadPath, ExitCode::Usage),
            (ErrorCode::BadOption, ExitCode::Usage),
            (ErrorCode::IsStream, ExitCode::Usage),
            (ErrorCode::IsDocument, ExitCode::Usage),
            (ErrorCode::ShuttingDown, ExitCode::NoDaemon),
            (ErrorCode::Unreachable, ExitCode::NoDaemon),
            (ErrorCode::AlreadyExists, ExitCode::ClosedOrExists),
            (ErrorCode::Closed, ExitCode::ClosedOrExists),
            (ErrorCode::Limit, ExitCode::Failure),
            (ErrorCode::PastHead, ExitCode::Failure),
            (ErrorCode::Unknown(999), ExitCode::Failure),
        ] {
            assert_eq!(ExitCode::from_error(&told(code).into()), exit, "{code:?}");
        }
    }

    #[test]
    fn a_lost_daemon_exits_as_no_daemon_in_every_operation() {
        let no_daemon = ConnectError::NoDaemon { path: "/run/pfsd.sock".into(), source: lost() };
        let errors: [anyhow::Error; 5] = [
            RequestError::Connect(no_daemon).into(),
            ConnectError::Lost(lost()).into(),
            RequestError::Lost(lost()).into(),
            ReadError::DaemonGone(lost().into()).into(),
            WriteError::DaemonGone(lost().into()).into(),
        ];
        for error in errors {
            assert_eq!(ExitCode::from_error(&error), ExitCode::NoDaemon, "{error}");
        }
    }

    #[test]
    fn a_reader_and_a_writer_of_a_removed_stream_exit_with_different_codes() {
        assert_eq!(ExitCode::from_error(&ReadError::Removed.into()), ExitCode::Removed);
        assert_eq!(
            ExitCode::from_error(&ReadError::TooSlow { lag: None }.into()),
            ExitCode::TooSlow
        );
        assert_eq!(ExitCode::from_error(&WriteError::Removed.into()), ExitCode::Failure);
        assert_eq!(ExitCode::from_error(&WriteError::Closed.into()), ExitCode::ClosedOrExists);
    }

    #[test]
    fn a_refused_reader_or_writer_exits_with_the_code_of_the_reason() {
        for (code, exit) in
            [(ErrorCode::BadOption, ExitCode::Usage), (ErrorCode::Limit, ExitCode::Failure)]
        {
            assert_eq!(ExitCode::from_error(&ReadError::from(told(code)).into()), exit, "{code:?}");
            assert_eq!(
                ExitCode::from_error(&WriteError::from(told(code)).into()),
                exit,
                "{code:?}"
            );
        }
    }

    #[test]
    fn context_of_an_error_does_not_change_its_code() {
        let error = anyhow::Error::new(told(ErrorCode::NoSuchStream))
            .context("cannot show it")
            .context("again");
        assert_eq!(ExitCode::from_error(&error), ExitCode::NoSuchStream);
        assert_eq!(ExitCode::from_error(&anyhow::anyhow!("no idea")), ExitCode::Failure);
    }
}
