//! Sessions and process groups: whether a shell can continue this process, and whether the terminal
//! signals it.
//!
//! Calls libc directly: in a PID namespace, the id of a session or group outside of the namespace
//! is 0, which `rustix` treats as impossible. A shell that was started with `unshare --pid`, as by
//! some build services, is in such a session.
//!
//! # Safety
//!
//! The unsafe system calls in this module take numbers and no pointers, so they touch no memory of
//! this process. They only query the system.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use rustix::process::{Pid, getppid};

/// Returns true if the parent is in the same session, like a shell that can continue this process.
pub(crate) fn is_shared_with_parent() -> bool {
    let Some(parent) = getppid() else { return false };
    // SAFETY: see the module's documentation.
    let (theirs, ours) = unsafe { (libc::getsid(Pid::as_raw(Some(parent))), libc::getsid(0)) };
    theirs == ours
}

/// Returns true if this process is in the foreground process group of this terminal, so that the
/// terminal signals it. The terminal must be the one of its session.
///
/// # Errors
///
/// The file is not a terminal, or is the terminal of another session.
pub(crate) fn is_in_foreground(terminal: impl AsFd) -> io::Result<bool> {
    // SAFETY: see the module's documentation. The descriptor is borrowed during the call.
    let (group, ours) = unsafe { (libc::tcgetpgrp(terminal.as_fd().as_raw_fd()), libc::getpgrp()) };
    if group == -1 { Err(io::Error::last_os_error()) } else { Ok(group == ours) }
}
