//! Socket selection: the named socket, otherwise the first place where clients look and this daemon
//! may serve.

use std::{
    fs::DirBuilder,
    io,
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
};

use pfs_client::lookup::{Lookup, Unfit};

use super::{SocketError, SocketFile, lock};

/// Listens on the socket `named`, with permissions `mode`. If the socket is at a default place of
/// clients, its directory must belong to this user alone. Any other directory is created if it is
/// missing, and its permissions are the user's responsibility.
///
/// # Errors
///
/// [`SocketError`]; the file at the path is then left alone.
pub fn bind_named(
    named: &Path,
    lookup: &Lookup,
    mode: u32,
) -> Result<(UnixListener, SocketFile), SocketError> {
    prepare(named, lookup, true)?;
    SocketFile::bind(named, mode)
}

/// Creates the directory of a socket if it is missing, with its parents if `recursive` is set, and
/// checks its permissions if it is a default place of clients.
pub(super) fn prepare(socket: &Path, lookup: &Lookup, recursive: bool) -> Result<(), SocketError> {
    if let Some(place) =
        lookup.places().iter().find(|place| place.is_own() && place.socket() == socket)
    {
        return place
            .prepare()
            .map_err(|unfit| SocketError::Unfit { path: socket.to_owned(), unfit });
    }
    let Some(directory) = socket.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o700).recursive(recursive).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(SocketError::io("create the directory", directory, error))
        }
        _ => Ok(()),
    }
}

/// Listens at the first place of the lookup where this daemon may serve.
///
/// # Errors
///
/// [`SocketError::Live`] if a daemon of this user answers at any place, even a later one: clients
/// would no longer find it. The system-wide daemon for all users is no obstacle.
/// [`SocketError::Nowhere`] if no place is fit.
pub fn bind_first(lookup: &Lookup, mode: u32) -> Result<(UnixListener, SocketFile), SocketError> {
    if let Ok(found) = lookup.find_own() {
        return Err(SocketError::Live {
            pid: lock::pid(&found.socket),
            path: found.socket,
            answers: true,
        });
    }
    let mut reasons = Vec::new();
    // Reasons that deserve a warning if another place is used. If no place is fit, they are part of
    // the error.
    let mut surprises = Vec::new();
    for place in lookup.places() {
        let reason = match place.prepare() {
            Ok(()) => match SocketFile::bind(&place.socket(), mode) {
                Ok(bound) => {
                    for reason in &surprises {
                        tracing::warn!(
                            "cannot serve on the first socket where clients look: {reason}"
                        );
                    }
                    return Ok(bound);
                }
                Err(live @ SocketError::Live { .. }) => return Err(live),
                Err(error) => error.to_string(),
            },
            // Common, and not worth a warning if another place is used.
            Err(missing @ Unfit::Missing { .. }) => {
                reasons.push(missing.to_string());
                continue;
            }
            Err(unfit) => unfit.to_string(),
        };
        surprises.push(reason.clone());
        reasons.push(reason);
    }
    Err(SocketError::Nowhere { reasons })
}
