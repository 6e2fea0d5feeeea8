//! systemd: socket activation, and notifications of the daemon's state.

use std::{
    net::TcpListener,
    os::{fd::BorrowedFd, unix::net::UnixListener},
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, SocketType, getsockname,
    sockopt::{socket_acceptconn, socket_type},
};
use sd_notify::NotifyState;

const UNUSABLE: &str = "cannot use the sockets that the service manager passed";

/// Listening sockets passed by the service manager (socket activation).
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// The Unix socket, for clients on this machine.
    pub(crate) unix: Option<UnixListener>,
    /// The TCP socket, for HTTP.
    pub(crate) tcp: Option<TcpListener>,
}

/// Takes the sockets passed by the service manager: none, a Unix socket, a TCP socket, or both, in
/// any order.
///
/// `LISTEN_PID` and `LISTEN_FDS` stay in the environment: they name this process, so no child takes
/// them for its own.
///
/// # Errors
///
/// A descriptor is not a listening stream socket, or there are two sockets of the same kind.
pub(crate) fn listeners() -> Result<Listeners> {
    let mut listeners = Listeners::default();
    for number in sd_notify::listen_fds().context(UNUSABLE)? {
        // SAFETY: the descriptor is open, because `listen_fds` has just set its close-on-exec flag.
        // The descriptor belongs to the service manager's protocol, so no code in this process
        // closes it, and this function does not either: it uses a duplicate.
        #[allow(unsafe_code, reason = "the protocol passes a descriptor as a number")]
        let passed = unsafe { BorrowedFd::borrow_raw(number) };
        let duplicate = || passed.try_clone_to_owned().context(UNUSABLE);
        let second = match family_of_listener(passed) {
            Some(AddressFamily::UNIX) => listeners.unix.replace(duplicate()?.into()).is_some(),
            Some(AddressFamily::INET | AddressFamily::INET6) => {
                listeners.tcp.replace(duplicate()?.into()).is_some()
            }
            _ => bail!("{UNUSABLE}: descriptor {number} is not a listening Unix or TCP socket"),
        };
        if second {
            bail!(
                "{UNUSABLE}: pfsd accepts at most one Unix socket and one TCP socket; descriptor {number} is an extra one"
            );
        }
    }
    if let Some(unix) = &listeners.unix {
        unix.set_nonblocking(true).context(UNUSABLE)?;
    }
    if let Some(tcp) = &listeners.tcp {
        tcp.set_nonblocking(true).context(UNUSABLE)?;
    }
    Ok(listeners)
}

/// Returns the address family of a listening stream socket, or `None` for any other descriptor.
fn family_of_listener(descriptor: BorrowedFd<'_>) -> Option<AddressFamily> {
    let listens = socket_type(descriptor).ok()? == SocketType::STREAM
        && socket_acceptconn(descriptor).ok()?;
    listens.then(|| getsockname(descriptor).ok().map(|name| name.address_family())).flatten()
}

/// Notifies the service manager that clients can connect.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies the service manager that the daemon reloads its configuration. [`ready`] follows after
/// the reload, whatever its outcome.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify the service manager"),
    }
}

/// Notifies the service manager that the daemon shuts down.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
