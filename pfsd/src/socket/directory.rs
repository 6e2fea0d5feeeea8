//! The directory that the socket is in.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use rustix::process::geteuid;

use super::SocketError;

/// What the socket's directory must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Where clients look by themselves: nobody else may own or enter it. In `/tmp` anybody could have made it.
    Private,
    /// Where the user wants it: its permissions are the user's affair.
    AsItIs,
}

impl Directory {
    /// Makes the directory, for its owner alone, if there is none, and checks the one there is.
    pub(super) fn prepare(self, path: &Path) -> Result<(), SocketError> {
        match DirBuilder::new().mode(0o700).recursive(self == Self::AsItIs).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SocketError::io("make the directory", path, error)),
        }
        match self {
            Self::AsItIs => Ok(()),
            Self::Private => check(path),
        }
    }
}

fn check(path: &Path) -> Result<(), SocketError> {
    let uid = geteuid().as_raw();
    let refuse = |reason: String| Err(SocketError::Unsafe { path: path.to_owned(), reason, uid });
    // Not followed: in /tmp a link could lead anywhere.
    let metadata = std::fs::symlink_metadata(path)
        .map_err(|error| SocketError::io("look at the directory", path, error))?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() {
        refuse("it is not a directory".to_owned())
    } else if metadata.uid() != uid {
        refuse(format!("it belongs to user {}", metadata.uid()))
    } else if mode & 0o077 != 0 {
        refuse(format!("others can enter or change it (mode {mode:04o})"))
    } else {
        Ok(())
    }
}
