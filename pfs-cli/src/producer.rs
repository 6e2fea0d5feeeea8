//! The command of `pfs write -- COMMAND`: a child process whose standard output is appended.
//!
//! The child has the standard input and standard error of `pfs`, and is in its process group. While
//! the child runs, SIGINT, SIGTERM and SIGHUP do not end `pfs`: how the child ends tells what
//! becomes of the stream. SIGTERM and SIGHUP are passed on. So is SIGINT, unless it may have come
//! from the terminal, which sends it to the whole process group. Once the child has ended, these
//! signals end `pfs` again.

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

/// The exit codes of a shell for a command that cannot be executed, and for one that does not
/// exist.
const NOT_EXECUTED: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The command itself.
    pub(crate) producer: Producer,
    /// The reading end of the pipe that is its standard output.
    pub(crate) output: PipeReader,
    /// The signals that it does not get any more.
    pub(crate) interruption: Interruption,
}

/// A command at work.
#[derive(Debug)]
pub(crate) struct Producer {
    name: String,
    /// `None` once it was waited for.
    ended: Option<oneshot::Receiver<io::Result<ExitStatus>>>,
    terminate: Arc<Notify>,
}

/// A signal that comes after the end of the command.
#[derive(Debug)]
pub(crate) struct Interruption(oneshot::Receiver<Signal>);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct End {
    name: String,
    status: ExitStatus,
}

impl Producer {
    /// Starts a command, the program first. To be called in a runtime.
    ///
    /// # Errors
    ///
    /// The command cannot be started. The failure has the exit code that a shell gives it.
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
        // Before the start: a signal in between is passed on, too.
        let signals = Signals::catch().map_err(failed)?;
        // The writing end of the pipe is gone here after this statement: at the end of the child,
        // the pipe ends.
        let child = Command::new(program).args(arguments).stdout(input).spawn().map_err(failed)?;
        let (tell_end, ended) = oneshot::channel();
        let (tell_signal, interruption) = oneshot::channel();
        let terminate = Arc::<Notify>::default();
        tokio::spawn(supervise(child, signals, Arc::clone(&terminate), tell_end, tell_signal));
        let producer = Self { name, ended: Some(ended), terminate };
        Ok(Started { producer, output, interruption: Interruption(interruption) })
    }

    /// The program's name, as it was given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends the command SIGTERM, if it has not ended.
    pub(crate) fn terminate(&self) {
        self.terminate.notify_one();
    }

    /// Waits for the end of the command.
    ///
    /// # Errors
    ///
    /// The system cannot tell, or the end was told before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> io::Result<End> {
        let Some(ended) = &mut self.ended else {
            return Err(io::Error::other("its end was told before"));
        };
        let status = ended.await.map_err(io::Error::other);
        self.ended = None;
        Ok(End { name: self.name.clone(), status: status?? })
    }
}

impl Interruption {
    /// Waits for a signal after the end of the command, and tells with which code `pfs` ends by it.
    pub(crate) async fn comes(self) -> ExitCode {
        match self.0.await {
            Ok(signal) => ExitCode::from_signal(signal.as_raw()),
            Err(_) => pending().await,
        }
    }
}

impl End {
    /// Whether the command did all that it should have done.
    pub(crate) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// The code that a shell has for it.
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

/// Passes signals on until the command has ended; the next signal is for `pfs`.
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
        // None once it was waited for: its number may be another process's then.
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid.filter(|_| signal != Signal::INT || !terminal_signals_us()) {
            // It may have another user's rights by now, and be out of reach.
            let _ = kill_process(pid, signal);
        }
    };
    // The receiver is gone when `pfs` is about to end.
    let _ = ended.send(status);
    let _ = interrupted.send(signals.next().await);
}

/// Whether the terminal sends its signals to this process group, and so to the command.
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
    fn a_command_has_the_code_that_a_shell_gives_it() {
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
    async fn a_command_that_cannot_be_started_is_told_from_one_that_does_not_exist() {
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
