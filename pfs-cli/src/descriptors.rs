//! Closed standard descriptors: detects at start-up which ones are closed.
//!
//! Before `main`, the standard library opens `/dev/null` for every standard descriptor that is
//! closed. Output to it would be lost without an error, and `pfs write` would read an empty input.
//! An open `/dev/null` proves nothing, because other programs pass one on purpose, in any mode. So
//! the loader calls [`look`] before the standard library does anything.
//!
//! # Safety
//!
//! The loader calls each function in the section of [`LOOK`] once, before `main`, on the only
//! thread. It passes arguments by the C ABI, which a function may ignore. [`look`] needs nothing
//! that is set up later: it queries the flags of two descriptors, stores to atomics, and
//! cannot panic.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat},
    io::{Errno, fcntl_getfd},
    stdio,
};

/// Whether standard input and standard output were closed when this process started.
static CLOSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Entry for [`look`] in the loader's list of functions to call before `main`.
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

/// Returns standard input, if it can be read.
///
/// # Errors
///
/// Standard input was closed when this process started, was not opened for reading, or is
/// a directory.
pub(crate) fn stdin() -> io::Result<BorrowedFd<'static>> {
    let [closed, _] = &CLOSED;
    let stdin = open_for(stdio::stdin(), closed, OFlags::WRONLY)?;
    match FileType::from_raw_mode(fstat(stdin)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Ok(stdin),
    }
}

/// Returns standard output, if it can be written.
///
/// # Errors
///
/// Standard output was closed when this process started, or was not opened for writing.
pub(crate) fn stdout() -> io::Result<BorrowedFd<'static>> {
    let [_, closed] = &CLOSED;
    open_for(stdio::stdout(), closed, OFlags::RDONLY)
}

/// Returns the descriptor, unless it was closed or has the access mode `useless`.
fn open_for<'a>(
    descriptor: BorrowedFd<'a>,
    was_closed: &AtomicBool,
    useless: OFlags,
) -> io::Result<BorrowedFd<'a>> {
    if was_closed.load(Relaxed) || fcntl_getfl(descriptor)?.intersection(OFlags::RWMODE) == useless
    {
        return Err(Errno::BADF.into());
    }
    Ok(descriptor)
}
