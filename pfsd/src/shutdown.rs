//! How the daemon is told to end, and how it tells its connections.

use std::{future, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

/// How long connections may take for their last words before they are cut.
pub(crate) const GRACE: Duration = Duration::from_secs(4);

/// Tells every [`Going`] that the daemon ends.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<bool>);

/// Knows whether the daemon is ending.
#[derive(Clone, Debug)]
pub(crate) struct Going(watch::Receiver<bool>);

pub(crate) fn channel() -> (Trigger, Going) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Going(receiver))
}

impl Trigger {
    pub(crate) fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Going {
    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the daemon begins to end. Cancel safe.
    pub(crate) async fn begun(&mut self) {
        // An error would mean that the daemon's own task is gone, which is an end too.
        let _ = self.0.wait_for(|going| *going).await;
    }

    /// Waits until the daemon has been ending for so long that something stuck must be given up.
    pub(crate) async fn patience(&mut self) {
        self.begun().await;
        sleep(GRACE / 2).await;
    }
}

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

/// The signals that end the daemon, caught from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Must be called within a tokio runtime.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) -> Ending {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Ending::Interrupt,
            Some(()) = self.terminate.recv() => Ending::Terminate,
            else => future::pending().await,
        }
    }
}
