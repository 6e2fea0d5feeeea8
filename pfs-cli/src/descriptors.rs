//! Descriptors at start-up: which standard ones are closed, and how to keep the others from the daemon that `pfs` starts.
//!
//! Before `main`, the standard library opens `/dev/null` for every standard descriptor that is closed. What is written there
//! would be lost without an error, and `pfs write` would find an empty input. An open `/dev/null` tells nothing: other
//! programs pass one on purpose, in any mode. So the loader calls [`look`] before the standard library does anything.
//!
//! The standard library opens everything close-on-exec, but what a process inherited stays open in its children too: a pipe
//! whose reader waits for its end, or the file of a lock.
//!
//! # Safety
//!
//! The two unsafe system calls in this module take numbers and no pointers, so they touch no memory of this process. Both only
//! set the close-on-exec flag of descriptors. Nothing is closed, so the owners of the descriptors notice nothing.
//!
//! The loader calls each function in the section of [`LOOK`] once, before `main`, on the only thread. It passes arguments by
//! the C ABI, which a function may ignore. [`look`] needs nothing that is set up later: it asks for the flags of two
//! descriptors, stores to atomics, and cannot panic.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{fs, io};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio;

/// Whether standard input and standard output were closed when this process was started.
static CLOSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// The loader's list of functions to call before `main` has [`look`] in it.
#[used]
// SAFETY: see the module's documentation.
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for (descriptor, closed) in [stdio::stdin(), stdio::stdout()].into_iter().zip(&CLOSED) {
        closed.store(fcntl_getfd(descriptor).is_err(), Relaxed);
    }
}

/// Standard input, if it can be read.
///
/// # Errors
///
/// It was closed when this process was started, was not opened for reading, or is a directory.
pub(crate) fn stdin() -> io::Result<BorrowedFd<'static>> {
    let [closed, _] = &CLOSED;
    let stdin = open_for(stdio::stdin(), closed, OFlags::WRONLY)?;
    match FileType::from_raw_mode(fstat(stdin)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Ok(stdin),
    }
}

/// Standard output, if it can be written.
///
/// # Errors
///
/// It was closed when this process was started, or was not opened for writing.
pub(crate) fn stdout() -> io::Result<BorrowedFd<'static>> {
    let [_, closed] = &CLOSED;
    open_for(stdio::stdout(), closed, OFlags::RDONLY)
}

/// A descriptor that neither was closed nor has the access mode that is useless.
fn open_for<'a>(
    descriptor: BorrowedFd<'a>,
    was_closed: &AtomicBool,
    useless: OFlags,
) -> io::Result<BorrowedFd<'a>> {
    if was_closed.load(Relaxed) || fcntl_getfl(descriptor)?.intersection(OFlags::RWMODE) == useless {
        return Err(Errno::BADF.into());
    }
    Ok(descriptor)
}

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
