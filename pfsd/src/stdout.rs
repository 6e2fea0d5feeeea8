//! Standard output for help, the version and the result of `--check-config`.
//!
//! Before `main`, the standard library opens `/dev/null` for every closed standard descriptor, so
//! output to a closed stdout would be lost without an error. Therefore the loader calls [`look`]
//! before the standard library does anything. `pfs` does the same (`pfs-cli/src/descriptors.rs`).
//!
//! # Safety
//!
//! The loader calls each function in the section of [`LOOK`] once, before `main`, on the only
//! thread. It passes arguments by the C ABI, which a function may ignore. [`look`] needs nothing
//! that is set up later: it queries the flags of a descriptor, stores to an atomic, and
//! cannot panic.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::{Errno, fcntl_getfd},
    stdio,
};

/// Whether standard output was closed when this process started.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Entry for [`look`] in the loader's list of functions to call before `main`.
#[used]
#[allow(unsafe_code, reason = "the attribute names a section of the loader")]
// SAFETY: see the module's documentation.
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    CLOSED.store(fcntl_getfd(stdio::stdout()).is_err(), Relaxed);
}

/// Calls `what`, which prints. Then flushes standard output and returns the exit code. A closed
/// pipe is success: its reader has read enough.
///
/// # Errors
///
/// Standard output cannot be written, for example because it is closed or full.
pub(crate) fn print(what: impl FnOnce() -> io::Result<()>) -> Result<ExitCode> {
    match is_writable().and_then(|()| what()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Returns an error if standard output is closed or read-only, which the standard library treats
/// as success.
fn is_writable() -> io::Result<()> {
    let useless = OFlags::RDONLY;
    if CLOSED.load(Relaxed) || fcntl_getfl(stdio::stdout())?.intersection(OFlags::RWMODE) == useless
    {
        return Err(Errno::BADF.into());
    }
    Ok(())
}
