//! Signal handling: SIGINT and SIGTERM shut the daemon down, SIGHUP reloads the configuration,
//! SIGXFSZ is ignored.

use std::{future, io};

use rustix::process;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that shuts the daemon down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// Returns the exit code that a shell reports for a process killed by this signal.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Catches SIGHUP from now on. A SIGHUP that arrives before the daemon serves takes effect once it
/// serves. Must be called within a tokio runtime.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The signals that shut the daemon down, caught from now on.
///
/// SIGXFSZ is caught too, and ignored. The kernel sends it for a file beyond the limit on file
/// sizes (`ulimit -f`), memory files included, and its default action would kill the daemon with
/// all its streams. With SIGXFSZ caught, only the one call fails: a stream gets memory that is not
/// shared, or a log line is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _file_size: Signal,
}

impl Signals {
    /// Starts catching the signals. Must be called within a tokio runtime.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(process::Signal::XFSZ.as_raw()))?,
        })
    }

    pub(crate) async fn next(&mut self) -> Ending {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Ending::Interrupt,
            Some(()) = self.terminate.recv() => Ending::Terminate,
            else => future::pending().await,
        }
    }
}
