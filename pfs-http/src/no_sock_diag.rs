//! Stub of `sock_diag` for systems without sock_diag(7), where the kernel cannot be asked about
//! a socket.

use std::{io, net::SocketAddr};

/// Always returns an error.
pub(super) fn is_orphan(_: SocketAddr, _: SocketAddr) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Always returns an error.
pub(super) fn is_acknowledged(_: SocketAddr, _: SocketAddr) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
