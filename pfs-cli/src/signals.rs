//! Signal handling for commands that must clean up before a signal ends `pfs`.

use std::{future::pending, io};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP, which would end `pfs`.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Caught,
    terminate: Caught,
    hangup: Caught,
}

/// A caught signal. `None` if this process ignores it, as under nohup: then it stays ignored.
pub(crate) type Caught = Option<tokio::signal::unix::Signal>;

impl Signals {
    /// Catches these signals, which no longer end this process. Must be called inside a runtime.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. If several are pending, returns SIGINT first, then SIGTERM,
    /// then SIGHUP.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            () = one(&mut self.interrupt) => Signal::INT,
            () = one(&mut self.terminate) => Signal::TERM,
            () = one(&mut self.hangup) => Signal::HUP,
        }
    }
}

/// Catches a signal, unless this process ignores it.
pub(crate) fn catch(kind: SignalKind) -> io::Result<Caught> {
    let bit =
        kind.as_raw_value().checked_sub(1).and_then(|bit| 1_u64.checked_shl(bit.unsigned_abs()));
    if ignored() & bit.unwrap_or_default() == 0 { signal(kind).map(Some) } else { Ok(None) }
}

/// Waits for this signal; for ever if it is ignored.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn one(caught: &mut Caught) {
    if let Some(caught) = caught
        && caught.recv().await.is_some()
    {
        return;
    }
    pending().await
}

/// The signals that this process ignores, as a bit mask. Zero if the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
