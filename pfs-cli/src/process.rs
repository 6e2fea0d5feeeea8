//! Stopping another process: SIGTERM, and waiting until it has exited.

use rustix::process::{Pid, Signal};

/// A process that is not a child of this one.
#[derive(Debug)]
pub(crate) struct Process {
    #[cfg(target_os = "linux")]
    handle: std::os::fd::OwnedFd,
    #[cfg(not(target_os = "linux"))]
    pid: Pid,
}

#[cfg(target_os = "linux")]
impl Process {
    /// The process with this id, if there is one. The handle (a pidfd) never refers to a later
    /// process with the same id.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        Some(Self { handle })
    }

    /// Sends SIGTERM. Returns false if this user may not, or if the process has exited.
    pub(crate) fn terminate(&self) -> bool {
        rustix::process::pidfd_send_signal(&self.handle, Signal::TERM).is_ok()
    }

    /// Waits until the process has exited.
    pub(crate) async fn ended(self) {
        use rustix::{
            event::{PollFd, PollFlags, poll},
            io::retry_on_intr,
        };
        let end =
            move || retry_on_intr(|| poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], None));
        // Cannot fail: poll has no time limit, and the thread does not panic.
        let _ = tokio::task::spawn_blocking(end).await;
    }
}

#[cfg(not(target_os = "linux"))]
impl Process {
    /// The process with this id.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        Some(Self { pid: Pid::from_raw(i32::try_from(pid).ok()?)? })
    }

    /// Sends SIGTERM. Returns false if this user may not, or if the process has exited.
    pub(crate) fn terminate(&self) -> bool {
        rustix::process::kill_process(self.pid, Signal::TERM).is_ok()
    }

    /// Polls until the process has exited.
    pub(crate) async fn ended(self) {
        while rustix::process::test_kill_process(self.pid).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
