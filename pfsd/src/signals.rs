//! The signals that end the daemon, one that reloads its configuration, and one that must do
//! nothing.

use std::{future, io};

use rustix::process;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// What a shell shows for a process that this signal ended.
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

/// SIGHUP, caught from now on: a daemon that does not serve yet reloads its configuration once it
/// does. Must be called within a tokio runtime.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The signals that end the daemon, caught from now on.
///
/// SIGXFSZ is caught, too, and ignored. It reports a file beyond the limit on file sizes (`ulimit
/// -f`), memory files included, and would end the daemon with all its streams. When it is caught,
/// only the one call fails: a stream gets memory that is not shared, or a line of the log is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _file_size: Signal,
}

impl Signals {
    /// Must be called within a tokio runtime.
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
