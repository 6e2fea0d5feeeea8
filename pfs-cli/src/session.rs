//! Sessions and process groups: who may continue this process, and whom the terminal signals.
//!
//! Asked by way of libc: in a PID namespace, the number of a session or a group outside of it is 0,
//! which `rustix` takes for impossible. A shell that was started with `unshare --pid`, as some
//! build services do, is in such a session.
//!
//! # Safety
//!
//! The unsafe system calls in this module take numbers and no pointers, so they touch no memory of
//! this process, and they only ask.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use rustix::process::{Pid, getppid};

/// Whether the parent of this process is in its session, as the shell is that can continue it.
pub(crate) fn is_shared_with_parent() -> bool {
    let Some(parent) = getppid() else { return false };
    // SAFETY: see the module's documentation.
    let (theirs, ours) = unsafe { (libc::getsid(Pid::as_raw(Some(parent))), libc::getsid(0)) };
    theirs == ours
}

/// Whether this process is in the foreground of this terminal, which must be the one of its
/// session: whether the terminal signals it.
///
/// # Errors
///
/// This is another file, or another session's terminal.
pub(crate) fn is_in_foreground(terminal: impl AsFd) -> io::Result<bool> {
    // SAFETY: see the module's documentation. The descriptor is borrowed for as long.
    let (group, ours) = unsafe { (libc::tcgetpgrp(terminal.as_fd().as_raw_fd()), libc::getpgrp()) };
    if group == -1 { Err(io::Error::last_os_error()) } else { Ok(group == ours) }
}
