//! File watch (inotify): waits until one of the watched files may have been deleted.

use std::{path::Path, time::Duration};

/// Interval between checks if the system reports deletions. Inotify does not report a file that
/// became unreachable because a parent directory was renamed or something was mounted over it. At
/// this interval a check costs nothing.
#[cfg(target_os = "linux")]
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Interval between checks if the system reports nothing: it has no inotify, or this user has no
/// inotify instance left.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A watch on files, effective from its creation. Uses inotify instead of polling every few
/// seconds, so that an idle daemon sleeps, and a client that connects right after a deletion finds
/// the daemon again.
#[derive(Debug)]
pub(super) struct Watch {
    #[cfg(target_os = "linux")]
    told: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

#[cfg(target_os = "linux")]
impl Watch {
    /// Starts the watch. Must be called within a tokio runtime.
    pub(super) fn new(files: [&Path; 2]) -> Self {
        Self { told: watch(files).ok() }
    }

    /// Waits until a file may have been deleted or moved, or until a check is due anyway.
    pub(super) async fn changed(self) {
        use tokio::time::{sleep, timeout};

        match self.told {
            // The events are not read: checking the files tells more.
            Some(told) => drop(timeout(LOOK_INTERVAL, told.readable()).await),
            None => sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(target_os = "linux")]
fn watch(files: [&Path; 2]) -> std::io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    use tokio::io::{Interest, unix::AsyncFd};

    let watches = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for file in files {
        // Watch the files rather than their directory, which other programs may use heavily.
        // Removing the name of an open file changes an attribute: its link count.
        let flags = WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::DONT_FOLLOW;
        add_watch(&watches, file, flags)?;
    }
    // SAFETY: an `OwnedFd` returns the same open descriptor for as long as it lives, and this one
    // is moved into the `AsyncFd`.
    #[allow(
        unsafe_code,
        reason = "the trait accepts any type, also a type whose descriptor changes"
    )]
    let watch = unsafe { AsyncFd::register_with_interest(watches, Interest::READABLE) };
    Ok(watch?)
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    pub(super) fn new(_files: [&Path; 2]) -> Self {
        Self {}
    }

    /// Waits until a check is due.
    pub(super) async fn changed(self) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
