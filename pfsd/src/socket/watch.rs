//! A watch on files: waits until one of them may have been deleted.

use std::{path::Path, time::Duration};

/// Time between two looks where the system tells of deletions. It tells nothing of a file that is
/// no longer reached because a directory above it was renamed, or something was mounted over it. So
/// seldom a look costs nothing.
#[cfg(target_os = "linux")]
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Time between two looks where the system tells nothing: it has no inotify, or this user has no
/// instance left.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Files that are watched from the moment when this was made. Inotify rather than a look every few
/// seconds: an idle daemon sleeps, and who connects right after a deletion finds the daemon again.
#[derive(Debug)]
pub(super) struct Watch {
    #[cfg(target_os = "linux")]
    told: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

#[cfg(target_os = "linux")]
impl Watch {
    /// Must be called within a tokio runtime.
    pub(super) fn new(files: [&Path; 2]) -> Self {
        Self { told: watch(files).ok() }
    }

    /// Waits until a file may have been deleted or moved, or it is time for a look anyway.
    pub(super) async fn changed(self) {
        use tokio::time::{sleep, timeout};

        match self.told {
            // What happened is not read: a look at the files tells more.
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
        // The files themselves, and not their directory, where others may be busy. Removing the
        // name of a file that is open changes an attribute: the number of its links.
        let flags = WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::DONT_FOLLOW;
        add_watch(&watches, file, flags)?;
    }
    // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and this one is
    // moved into the `AsyncFd`.
    #[allow(unsafe_code, reason = "any type may be registered, also one whose descriptor changes")]
    let watch = unsafe { AsyncFd::register_with_interest(watches, Interest::READABLE) };
    Ok(watch?)
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    pub(super) fn new(_files: [&Path; 2]) -> Self {
        Self {}
    }

    /// Waits until it is time for a look.
    pub(super) async fn changed(self) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
