//! Lock file: tells a living daemon from the leftovers of a dead one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    thread::sleep,
    time::{Duration, Instant},
};

use pfs_client::lookup::answers;
use rustix::fs::OFlags;

use super::{Identity, SocketError};

/// How long to wait for an ending daemon that still holds the lock: its clients may take four
/// seconds. A `pfs` that started this daemon waits for five, and should get the reason.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(4500);

/// Delay between two attempts to take the lock of an ending daemon.
const HANDOVER_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// An exclusive lock on a file beside the socket, held until dropped. The system releases the lock
/// when a daemon dies, however it dies. The file holds the pid. No daemon removes the file, so that
/// two daemons cannot lock two files of the same name. If another program removes it, only the lock
/// on the file at the path counts: see [`is_current`](Self::is_current).
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock, or returns the daemon that holds it. A daemon that holds the lock and does
    /// not answer is most likely ending, so this waits for up to [`HANDOVER_TIMEOUT`].
    pub(super) fn wait(socket: &Path) -> Result<Self, SocketError> {
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        loop {
            match Self::take(socket) {
                Err(SocketError::Live { path, pid, .. }) => match answers(socket) {
                    Ok(false) if Instant::now() < deadline => sleep(HANDOVER_RETRY_INTERVAL),
                    answered => {
                        let answers = answered.unwrap_or_default();
                        return Err(SocketError::Live { path, pid, answers });
                    }
                },
                taken => return taken,
            }
        }
    }

    /// Takes the lock without waiting, or returns the daemon that holds it.
    pub(super) fn take(socket: &Path) -> Result<Self, SocketError> {
        let path = beside(socket);
        loop {
            let lock = Self::take_file(socket, path.clone())?;
            // Otherwise the file was removed before it was locked, and another daemon may lock
            // its replacement.
            if lock.is_current() {
                return Ok(lock);
            }
        }
    }

    /// Returns the path of the lock file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the locked file is still at the path, where other daemons would try to
    /// lock it.
    pub(super) fn is_current(&self) -> bool {
        let Ok(own) = self.file.metadata() else { return false };
        Identity::from_path(&self.path).is_some_and(|there| Some(there) == Identity::new(&own))
    }

    fn take_file(socket: &Path, path: PathBuf) -> Result<Self, SocketError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| SocketError::io("open the lock file", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = read_pid(&mut file);
                return Err(SocketError::Live { path: socket.to_owned(), pid, answers: false });
            }
            Err(TryLockError::Error(error)) => return Err(SocketError::io("lock", &path, error)),
        }
        // Ignore the error: the pid only improves messages.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", process::id()));
        Ok(Self { path, file })
    }
}

/// Returns the pid of the daemon that serves a socket, if its lock file can be read.
pub(super) fn pid(socket: &Path) -> Option<u32> {
    read_pid(&mut File::open(beside(socket)).ok()?)
}

/// Returns the path of the socket's lock file.
fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    Read::by_ref(file).take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
