//! Choosing the socket: the one that is named, else that of the first place where clients look and
//! this daemon may serve.

use std::{
    fs::DirBuilder,
    io,
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
};

use pfs_client::lookup::{Lookup, Unfit};

use super::{SocketError, SocketFile, lock};

/// Listens on the socket `named`, with permissions `mode`. Where clients look by themselves, its
/// directory must be this user's alone. Any other directory is made if it is missing, and its
/// permissions are the user's affair.
///
/// # Errors
///
/// [`SocketError`]; what is at the path is left alone then.
pub fn bind_named(
    named: &Path,
    lookup: &Lookup,
    mode: u32,
) -> Result<(UnixListener, SocketFile), SocketError> {
    prepare(named, lookup, true)?;
    SocketFile::bind(named, mode)
}

/// Makes the directory of a socket if there is none, with the directories above it if `recursive`
/// says so, and checks it where clients look by themselves.
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
            Err(SocketError::io("make the directory", directory, error))
        }
        _ => Ok(()),
    }
}

/// Listens at the first place of the lookup where this daemon may serve.
///
/// # Errors
///
/// [`SocketError::Live`] if a daemon of this user's answers at any place, also at a later one:
/// clients would no longer find it. The daemon that the system has for all users is no obstacle.
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
    // Told where another place is used. Otherwise the error has them.
    let mut surprises = Vec::new();
    for place in lookup.places() {
        let reason = match place.prepare() {
            Ok(()) => match SocketFile::bind(&place.socket(), mode) {
                Ok(bound) => {
                    for reason in &surprises {
                        tracing::warn!("not serving where clients look first: {reason}");
                    }
                    return Ok(bound);
                }
                Err(live @ SocketError::Live { .. }) => return Err(live),
                Err(error) => error.to_string(),
            },
            // Common, and no surprise where another place is used.
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
