//! Systemd: socket activation and notifications of the daemon's state.

use std::os::{
    fd::{AsFd, BorrowedFd},
    unix::net::UnixListener,
};

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, getsockname, sockopt::socket_type};
use sd_notify::NotifyState;

const UNUSABLE: &str = "cannot use the socket that the service manager passed";

/// The socket that the service manager opened for us, if it did.
///
/// `LISTEN_PID` and `LISTEN_FDS` stay in the environment: they name this process, so no child takes them for its own.
///
/// # Errors
///
/// When more than one socket was passed, or something other than a Unix stream socket.
pub(crate) fn listener() -> Result<Option<UnixListener>> {
    let mut passed = sd_notify::listen_fds().context(UNUSABLE)?;
    let number = match (passed.next(), passed.len()) {
        (None, _) => return Ok(None),
        (Some(number), 0) => number,
        (Some(_), more) => {
            let many = more.saturating_add(1);
            bail!("the service manager passed {many} sockets; pfsd takes one, a Unix stream socket")
        }
    };
    // SAFETY: the descriptor is open, for `listen_fds` has just set its close-on-exec flag. It belongs to the service
    // manager's protocol, so nobody in this process closes it, and we do not either: what is used is a duplicate.
    #[allow(unsafe_code, reason = "the protocol passes the number of a descriptor")]
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    if !is_unix_stream_socket(passed) {
        bail!("{UNUSABLE}: descriptor {number} is no Unix stream socket");
    }
    let listener = UnixListener::from(passed.try_clone_to_owned().context(UNUSABLE)?);
    listener.set_nonblocking(true).context(UNUSABLE)?;
    Ok(Some(listener))
}

fn is_unix_stream_socket(descriptor: impl AsFd) -> bool {
    socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM)
        && getsockname(&descriptor).is_ok_and(|name| name.address_family() == AddressFamily::UNIX)
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
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
