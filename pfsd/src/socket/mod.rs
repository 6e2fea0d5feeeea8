//! The socket's place in the file system: who may enter, who serves it, and what a dead daemon left.

mod directory;
mod lock;

use std::{
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, chmod},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};
use thiserror::Error;

pub use self::directory::Directory;
use self::lock::Lock;

/// Clients that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// The longest path of a socket, in bytes, on this system.
pub const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Why the daemon cannot serve at a path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The kernel takes no path of this length.
    #[error("cannot serve on {}: it has {} bytes, and the system takes at most {MAX_SOCKET_PATH} for a socket; \
             choose a shorter path with --socket", path.display(), path.as_os_str().len())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another daemon is there.
    #[error("a daemon is already serving {}{}", path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Live {
        /// The path.
        path: PathBuf,
        /// The other daemon, where known.
        pid: Option<u32>,
    },
    /// Something that is not a socket is there.
    #[error("cannot serve on {}: there is something else that is not a socket, and it was left alone; \
             remove it or choose another path with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Others could enter the directory, or it is somebody else's.
    #[error("refusing to serve in {}: {reason}; it must be a directory of user {uid} with mode 0700", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Who runs the daemon.
        uid: u32,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SocketError {
    fn io(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { what, path: path.to_owned(), source: source.into() }
    }
}

/// The socket's file. Dropping it removes the file, if it is still ours, and lets another daemon serve there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    _lock: Lock,
}

impl SocketFile {
    /// Listens at `path`, taking over what a dead daemon left there. Nobody can connect before the
    /// file has the permissions `mode`.
    ///
    /// # Errors
    ///
    /// [`SocketError`]; what is at the path is left alone then.
    pub fn bind(path: &Path, directory: Directory, mode: u32) -> Result<(UnixListener, Self), SocketError> {
        if SocketAddr::from_pathname(path).is_err() {
            return Err(SocketError::TooLong { path: path.to_owned() });
        }
        if let Some(parent) = path.parent() {
            directory.prepare(parent)?;
        }
        // Whoever holds the lock is the only one to look at the file, remove it and make it.
        let lock = Lock::take(path)?;
        remove_stale(path)?;

        let address = SocketAddrUnix::new(path).map_err(|error| SocketError::io("serve on", path, error))?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| SocketError::io("make a socket for", path, error))?;
        bind(&socket, &address).map_err(|error| SocketError::io("serve on", path, error))?;
        let identity = identity(path).map_err(|error| SocketError::io("serve on", path, error))?;
        let file = Self { path: path.to_owned(), identity, _lock: lock };
        // In this order: until it listens, connecting fails.
        chmod(path, Mode::from_raw_mode(mode as _))
            .map_err(|error| SocketError::io("set the permissions of", path, error))?;
        listen(&socket, BACKLOG).map_err(|error| SocketError::io("listen on", path, error))?;
        Ok((UnixListener::from(socket), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another file may be there, if somebody removed ours.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Left behind it would only be stale: the next daemon takes it over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::io("look at", path, error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // The lock is ours, but the lock's file may have been removed under another daemon, or another program
    // may listen here.
    if answers(path).map_err(|error| SocketError::io("try", path, error))? {
        return Err(SocketError::Live { path: path.to_owned(), pid: None });
    }
    tracing::info!(socket = %path.display(), "taking over the socket of a daemon that is gone");
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SocketError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Whether somebody listens at the socket.
fn answers(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // Full queues are those of a living daemon.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // Somebody's socket of another type.
        Err(Errno::PROTOTYPE) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
