//! The socket file: its permissions, its lock, taking over from a dead daemon, and recreation
//! after deletion.

mod choice;
mod keeper;
mod lock;
mod watch;

use std::{
    fs::Metadata,
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
};

use pfs_client::lookup::{Unfit, answers};
use rustix::{
    fs::Mode,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use thiserror::Error;

pub use self::choice::{bind_first, bind_named};
pub(crate) use self::keeper::Keeper;
use self::{lock::Lock, watch::Watch};

/// Length of the queue of clients to accept; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// The longest path of a socket, in bytes, on this system.
pub const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The error of a daemon that cannot serve at a path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The path is too long for the kernel.
    #[error("cannot serve on {}: the path has {} bytes, and the system allows at most {MAX_SOCKET_PATH} for a socket; \
             choose a shorter path with --socket", path.display(), path.as_os_str().len())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another daemon serves at the path.
    #[error("a pfsd{} already serves {}; stop that daemon first, or use another socket with --socket",
            pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    Live {
        /// The path.
        path: PathBuf,
        /// Process id of the other daemon, if known.
        pid: Option<u32>,
        /// Whether the other daemon answers. If not, it holds the lock and is starting, ending
        /// or hanging.
        answers: bool,
    },
    /// The file at the path is not a socket.
    #[error("cannot serve on {}: the existing file is not a socket and was left unchanged; \
             remove it or choose another path with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Other users could have put a socket where clients look by default.
    #[error("cannot serve on {}: {unfit}; clients look there by default, so the directory must belong to this user alone, with mode 0700",
            path.display())]
    Unfit {
        /// The path of the socket.
        path: PathBuf,
        /// What is wrong with the socket's directory.
        unfit: Unfit,
    },
    /// No default place is fit for a socket.
    #[error("no default directory for the socket is usable: {}; set XDG_RUNTIME_DIR to a directory of your own, or name a socket with --socket",
            reasons.join(", "))]
    Nowhere {
        /// The reason for each place.
        reasons: Vec<String>,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file that it failed for.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

impl SocketError {
    fn io(what: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io { what, path: path.to_owned(), error: error.into() }
    }
}

/// The socket file. Dropping it removes the file, if it is still ours, and lets another daemon
/// serve there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
    lock: Lock,
}

/// Identity of a file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn from_path(path: &Path) -> Option<Self> {
        Self::new(&std::fs::symlink_metadata(path).ok()?)
    }

    /// Returns the identity of a file, or `None` if the file has no name. While a file is being
    /// removed, its path can still lead to it for a moment.
    fn new(metadata: &Metadata) -> Option<Self> {
        (metadata.nlink() > 0).then(|| Self(metadata.dev(), metadata.ino()))
    }
}

impl SocketFile {
    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens at `path`, in a directory that exists, and takes over a socket left by a dead
    /// daemon. The file has the permissions `mode` from the moment of its creation, reduced by the
    /// umask of the process.
    ///
    /// # Errors
    ///
    /// [`SocketError`]; the file at the path is then left alone.
    pub fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Self), SocketError> {
        if SocketAddr::from_pathname(path).is_err() {
            return Err(SocketError::TooLong { path: path.to_owned() });
        }
        // Only the holder of the lock looks at the file, removes it and creates it.
        let lock = Lock::wait(path)?;
        let (listener, identity) = make_listener(path, mode)?;
        Ok((listener, Self { path: path.to_owned(), identity, lock }))
    }

    /// Recreates the socket or its lock file if they were deleted, in a directory that exists.
    /// Returns `None` if the socket is still there and ours. Never waits.
    ///
    /// # Errors
    ///
    /// [`SocketError`]; the file at the path is then left alone.
    fn make_again(&mut self, mode: u32) -> Result<Option<UnixListener>, SocketError> {
        // A lock on a deleted file keeps nobody out.
        if !self.lock.is_current() {
            self.lock = Lock::take(&self.path)?;
        }
        if self.is_ours() {
            return Ok(None);
        }
        let (listener, identity) = make_listener(&self.path, mode)?;
        self.identity = identity;
        Ok(Some(listener))
    }

    /// Waits until the socket or its lock file is deleted.
    async fn deleted(&self) {
        loop {
            // Watch before looking, so that no deletion is missed.
            let watch = Watch::new([&self.path, self.lock.path()]);
            if !self.is_ours() || !self.lock.is_current() {
                return;
            }
            watch.changed().await;
        }
    }

    /// Returns true if the file at the path is still the one that we created.
    fn is_ours(&self) -> bool {
        Identity::from_path(&self.path) == Some(self.identity)
    }
}

/// Listens at `path` and replaces a socket left by a dead daemon. The caller holds the lock.
fn make_listener(path: &Path, mode: u32) -> Result<(UnixListener, Identity), SocketError> {
    remove_stale(path)?;
    let socket = make(path, mode)?;
    let identity = Identity::from_path(path);
    let identity = identity.ok_or_else(|| {
        SocketError::io("serve on", path, io::Error::from(io::ErrorKind::NotFound))
    })?;
    listen(&socket, BACKLOG).map_err(|error| SocketError::io("listen on", path, error))?;
    Ok((UnixListener::from(socket), identity))
}

/// Creates the socket file. Nobody can connect to the socket yet, because it does not listen.
fn make(path: &Path, mode: u32) -> Result<OwnedFd, SocketError> {
    let address =
        SocketAddrUnix::new(path).map_err(|error| SocketError::io("serve on", path, error))?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| SocketError::io("create a socket for", path, error))?;
    bind_with_mode(&socket, &address, Mode::from_raw_mode(mode as _))
        .map_err(|error| SocketError::io("serve on", path, error))?;
    Ok(socket)
}

/// On Linux, the file gets the permissions of the socket. Changing the permissions of the file
/// instead would follow its path, where another file may be by now.
#[cfg(target_os = "linux")]
fn bind_with_mode(socket: &OwnedFd, address: &SocketAddrUnix, mode: Mode) -> Result<(), Errno> {
    rustix::fs::fchmod(socket, mode)?;
    bind(socket, address)
}

/// Other systems have only the umask. The umask belongs to the whole process, which creates no
/// other file at this time.
#[cfg(not(target_os = "linux"))]
fn bind_with_mode(socket: &OwnedFd, address: &SocketAddrUnix, mode: Mode) -> Result<(), Errno> {
    let usual = rustix::process::umask(Mode::from_raw_mode(0o777).difference(mode));
    let bound = bind(socket, address);
    rustix::process::umask(usual);
    bound
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If somebody removed our file, another file may be at the path.
        if self.is_ours() {
            // Ignore the error: a file left behind is stale, and the next daemon takes it over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::io("inspect", path, error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // We hold the lock, but the lock file of another daemon may have been removed, or another
    // program may listen here.
    if answers(path).map_err(|error| SocketError::io("connect to", path, error))? {
        return Err(SocketError::Live { path: path.to_owned(), pid: None, answers: true });
    }
    tracing::info!(socket = %path.display(), "taking over the socket of a dead daemon");
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SocketError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::metadata,
        os::unix::{fs::PermissionsExt, net::UnixStream},
    };

    use super::*;

    #[test]
    fn the_file_has_its_mode_before_anybody_can_connect() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400, 0o700] {
            let path = folder.path().join(mode.to_string());
            let _socket = make(&path, mode).unwrap();
            assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(
                UnixStream::connect(&path).unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
        }
    }
}
