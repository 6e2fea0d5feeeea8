//! What systemd offers: a socket that it has opened already, and somebody to tell how things are.

use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The socket that the service manager opened for us, if it did. Must be called before there are threads.
pub(crate) fn listener() -> Result<Option<UnixListener>> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(None),
        1 => {}
        many => bail!("the service manager passed {many} sockets; pfsd takes one, a Unix stream socket"),
    }
    let listener = passed.take_unix_listener(0);
    let listener = listener.context("cannot use the socket that the service manager passed")?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true).context("cannot use the socket that the service manager passed")?;
    }
    Ok(listener)
}

/// Tells the service manager that clients can connect.
pub(crate) fn ready() {
    notify(NotifyState::Ready);
}

/// Tells the service manager that the daemon is ending.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
