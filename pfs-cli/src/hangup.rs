//! Detects that the reader of standard output is gone, also while there is nothing to write.

use std::{os::fd::BorrowedFd, thread};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
    io::Errno,
};
use tokio::sync::oneshot;

use crate::output::OutputError;

/// Waits until the reader of standard output is gone, and returns the error that a write would
/// return. Never returns for a file, or for a terminal that does not hang up.
///
/// A thread waits, because an event loop cannot watch every kind of file and would need the
/// descriptor in non-blocking mode, a flag that other processes share.
pub(crate) async fn stdout_hangup() -> OutputError {
    let (gone, noticed) = oneshot::channel();
    // If no thread can be started, the next write detects the closed output.
    let watcher = thread::Builder::new()
        .name("stdout-hangup".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            if let Some(error) = wait_for_hangup(rustix::stdio::stdout()) {
                let _ = gone.send(error);
            }
        });
    match (watcher, noticed.await) {
        (Ok(_), Ok(error)) => error,
        _ => std::future::pending().await,
    }
}

/// Waits until the output reports an error or a hang-up. `None` if it cannot be watched.
fn wait_for_hangup(output: BorrowedFd<'_>) -> Option<OutputError> {
    loop {
        // No event is requested: errors and hang-ups are always reported.
        let mut watched = [PollFd::new(&output, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                let has_gone = watched
                    .iter()
                    .any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
                return has_gone.then(|| hangup_of(output));
            }
            Err(_) => return None,
        }
    }
}

/// Returns the error for a hang-up. A reader that closes a pipe or a socket has read enough; a
/// terminal that hangs up is a failed device.
fn hangup_of(output: BorrowedFd<'_>) -> OutputError {
    match fstat(output).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::CharacterDevice) => OutputError::Failed(Errno::IO.into()),
        _ => OutputError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use std::{io, os::fd::AsFd as _};

    use rustix::{
        fs::{Mode, OFlags, open},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    };

    use super::*;

    #[test]
    fn a_pipe_without_a_reader_is_closed() {
        let (reading, writing) = io::pipe().unwrap();
        drop(reading);
        let error = wait_for_hangup(writing.as_fd());
        assert!(matches!(error, Some(OutputError::Closed)), "{error:?}");
    }

    #[test]
    fn a_terminal_that_hangs_up_is_a_failure() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        drop(master);
        let error = wait_for_hangup(terminal.as_fd());
        assert!(matches!(error, Some(OutputError::Failed(_))), "{error:?}");
        assert_eq!(
            rustix::io::write(&terminal, b"x").unwrap_err(),
            Errno::IO,
            "a write to the terminal also fails"
        );
    }
}
