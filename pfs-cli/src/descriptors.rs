//! Inherited descriptors, and how to keep them from the daemon that `pfs` starts.
//!
//! The standard library opens everything close-on-exec, but what a process inherited stays open in its children too: a pipe
//! whose reader waits for its end, or the file of a lock.
//!
//! # Safety
//!
//! The two system calls in this module take numbers and no pointers, so they touch no memory of this process. Both only set
//! the close-on-exec flag of descriptors. Nothing is closed, so the owners of the descriptors notice nothing.

use std::{fs, io, os::fd::RawFd};

/// The first descriptor that is not standard input, output or error.
const FIRST: RawFd = 3;

/// Sets the close-on-exec flag of every open descriptor but standard input, output and error.
///
/// # Errors
///
/// When the system neither has `close_range` with its flag `CLOEXEC` (Linux 5.11) nor lists descriptors in `/dev/fd`.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    if mark_range() { Ok(()) } else { mark_listed() }
}

#[cfg(target_os = "linux")]
fn mark_range() -> bool {
    // By its number, because glibc has the function only since 2.34.
    let call = libc::SYS_close_range;
    // SAFETY: see the module's documentation.
    unsafe { libc::syscall(call, FIRST, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn mark_range() -> bool {
    false
}

fn mark_listed() -> io::Result<()> {
    for entry in fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number >= FIRST) else { continue };
        // SAFETY: see the module's documentation.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            let error = io::Error::last_os_error();
            // Another thread may have closed it meanwhile.
            if error.raw_os_error() != Some(libc::EBADF) {
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    /// A pipe whose ends children would inherit is no longer inherited after `mark`.
    fn keeps_a_pipe_from_children(mark: impl FnOnce()) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(fcntl_getfd(&reader).unwrap(), FdFlags::empty());
        mark();
        for end in [reader, writer] {
            assert_eq!(fcntl_getfd(end).unwrap(), FdFlags::CLOEXEC);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn one_system_call_keeps_inherited_descriptors_from_children() {
        keeps_a_pipe_from_children(|| assert!(mark_range(), "{}", io::Error::last_os_error()));
    }

    #[test]
    fn without_that_call_inherited_descriptors_are_kept_from_children_one_by_one() {
        keeps_a_pipe_from_children(|| mark_listed().unwrap());
    }
}
