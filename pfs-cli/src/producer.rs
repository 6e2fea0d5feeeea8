//! Child process of `pfs write -- COMMAND`, whose standard output is appended.
//!
//! The child inherits standard input and standard error of `pfs`, and is in its process group.
//! While the child runs, SIGINT, SIGTERM and SIGHUP do not end `pfs`, because the child's exit
//! status decides how the stream ends. `pfs` passes SIGTERM and SIGHUP on to the child. It also
//! passes SIGINT on, unless SIGINT may have come from the terminal, which sends it to the whole
//! process group. After the child has exited, these signals end `pfs` again.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    future::pending,
    io::{self, ErrorKind, PipeReader},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{Notify, oneshot},
};

use crate::{
    exit_code::{ExitCode, Failure},
    session,
    signals::Signals,
};

/// Exit codes that a shell uses for a command that cannot be executed, and for one that does
/// not exist.
const NOT_EXECUTED: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The command.
    pub(crate) producer: Producer,
    /// The reading end of the pipe that is its standard output.
    pub(crate) output: PipeReader,
    /// Signals that arrive after the command has exited.
    pub(crate) interruption: Interruption,
}

/// A running command.
#[derive(Debug)]
pub(crate) struct Producer {
    name: String,
    /// `None` after [`ended`](Self::ended) has returned.
    ended: Option<oneshot::Receiver<io::Result<ExitStatus>>>,
    terminate: Arc<Notify>,
}

/// The first signal that arrives after the command has exited.
#[derive(Debug)]
pub(crate) struct Interruption(oneshot::Receiver<Signal>);

/// Exit status of a command.
#[derive(Debug)]
pub(crate) struct End {
    name: String,
    status: ExitStatus,
}

impl Producer {
    /// Starts a command. The first word is the program. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The command cannot be started. The failure has the exit code that a shell would use.
    pub(crate) fn start(command: &[OsString]) -> Result<Started, Failure> {
        let (program, arguments) = command
            .split_first()
            .map_or((OsStr::new(""), &[][..]), |(program, rest)| (program.as_os_str(), rest));
        let name = program.to_string_lossy().into_owned();
        let failed = |error: io::Error| {
            let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTED };
            Failure::new(ExitCode::Command(code), format!("cannot start {name}: {error}"))
        };
        let (output, input) = io::pipe().map_err(failed)?;
        // Caught before the start, so that a signal in between is passed on, too.
        let signals = Signals::catch().map_err(failed)?;
        // This statement drops the writing end of the pipe here, so that the pipe ends when the
        // child exits.
        let child = Command::new(program).args(arguments).stdout(input).spawn().map_err(failed)?;
        let (tell_end, ended) = oneshot::channel();
        let (tell_signal, interruption) = oneshot::channel();
        let terminate = Arc::<Notify>::default();
        tokio::spawn(supervise(child, signals, Arc::clone(&terminate), tell_end, tell_signal));
        let producer = Self { name, ended: Some(ended), terminate };
        Ok(Started { producer, output, interruption: Interruption(interruption) })
    }

    /// The program's name, as given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends SIGTERM to the command, if it has not exited.
    pub(crate) fn terminate(&self) {
        self.terminate.notify_one();
    }

    /// Waits until the command has exited.
    ///
    /// # Errors
    ///
    /// The system cannot report the exit status, or it was returned before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> io::Result<End> {
        let Some(ended) = &mut self.ended else {
            return Err(io::Error::other("the exit status was returned before"));
        };
        let status = ended.await.map_err(io::Error::other);
        self.ended = None;
        Ok(End { name: self.name.clone(), status: status?? })
    }
}

impl Interruption {
    /// Waits for a signal after the command has exited, and returns the exit code of `pfs`.
    pub(crate) async fn comes(self) -> ExitCode {
        match self.0.await {
            Ok(signal) => ExitCode::from_signal(signal.as_raw()),
            Err(_) => pending().await,
        }
    }
}

impl End {
    /// Returns true if the command exited with 0.
    pub(crate) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Returns the code that a shell would report.
    pub(crate) fn code(&self) -> ExitCode {
        match self.status.code() {
            Some(0) => ExitCode::Success,
            Some(code) => ExitCode::Command(u8::try_from(code).unwrap_or(u8::MAX)),
            None => ExitCode::from_signal(self.status.signal().unwrap_or_default()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status } = self;
        match (status.code(), status.signal()) {
            (None, Some(signal)) => write!(f, "{name} was ended by signal {signal}"),
            (code, _) => write!(f, "{name} ended with {}", code.unwrap_or_default()),
        }
    }
}

/// Passes signals on until the command has exited. The next signal is for `pfs`.
async fn supervise(
    mut child: Child,
    mut signals: Signals,
    terminate: Arc<Notify>,
    ended: oneshot::Sender<io::Result<ExitStatus>>,
    interrupted: oneshot::Sender<Signal>,
) {
    let status = loop {
        let signal = tokio::select! {
            biased;
            status = child.wait() => break status,
            signal = signals.next() => signal,
            () = terminate.notified() => Signal::TERM,
        };
        // `None` after the child was waited for: another process may have its id then.
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid.filter(|_| signal != Signal::INT || !terminal_signals_us()) {
            // Fails if the command has changed its user.
            let _ = kill_process(pid, signal);
        }
    };
    // The receiver is gone if `pfs` is about to exit.
    let _ = ended.send(status);
    let _ = interrupted.send(signals.next().await);
}

/// Returns true if the terminal sends its signals to this process group, and so to the command.
fn terminal_signals_us() -> bool {
    File::open("/dev/tty")
        .and_then(session::is_in_foreground)
        .is_ok_and(|is_foreground| is_foreground)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32) -> End {
        End { name: "make".to_owned(), status: ExitStatus::from_raw(status) }
    }

    #[test]
    fn a_command_has_the_exit_code_that_a_shell_reports() {
        for (status, code, says) in [
            (3 << 8, 3, "make ended with 3"),
            (255 << 8, 255, "make ended with 255"),
            (9, 137, "make was ended by signal 9"),
        ] {
            let end = ended(status);
            assert_eq!((end.code(), end.is_success()), (ExitCode::Command(code), false));
            assert_eq!(end.to_string(), says);
        }
        assert_eq!((ended(0).code(), ended(0).is_success()), (ExitCode::Success, true));
    }

    #[tokio::test]
    async fn a_missing_command_exits_with_127_and_one_that_cannot_be_executed_with_126() {
        for (command, code) in [("/nowhere/at/all", 127), ("/", 126)] {
            let failure = Producer::start(&[command.into()]).unwrap_err();
            assert!(
                failure.to_string().starts_with(&format!("cannot start {command}: ")),
                "{failure}"
            );
            assert_eq!(ExitCode::from_error(&failure.into()), ExitCode::Command(code));
        }
    }
}
