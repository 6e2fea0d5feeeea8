//! Readiness of standard input: whether a read would block, and waiting until it would not.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{FileType, fstat},
    io::retry_on_intr,
};
use tokio::{net::unix::pipe, sync::Notify};

/// A file to wait for. It stays in blocking mode, because other processes share the flag.
#[derive(Debug)]
pub(crate) enum Readable {
    /// A pipe, watched by the event loop. Nothing is read through this receiver.
    Pipe(pipe::Receiver),
    /// Any other file, which the event loop may be unable to watch. A thread waits for it, and
    /// reads nothing.
    Thread {
        file: Arc<OwnedFd>,
        /// Asks the thread to wait; full while it waits.
        ask: SyncSender<()>,
        told: Arc<Notify>,
    },
}

impl Readable {
    /// Takes a duplicate of the file's descriptor.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Fifo {
            // The checked constructor would make the pipe non-blocking.
            pipe::Receiver::from_owned_fd_unchecked(file).map(Self::Pipe)
        } else {
            Self::with_thread(file)
        }
    }

    fn with_thread(file: OwnedFd) -> io::Result<Self> {
        let (file, told) = (Arc::new(file), Arc::<Notify>::default());
        let (ask, asked) = sync_channel(1);
        let (their_file, theirs) = (Arc::clone(&file), Arc::clone(&told));
        thread::Builder::new()
            .name("readable".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || run(&their_file, &asked, &theirs))?;
        Ok(Self::Thread { file, ask, told })
    }

    fn file(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd(),
            Self::Thread { file, .. } => file.as_fd(),
        }
    }

    /// Returns true if a read would return data, the end of the file or an error at once.
    pub(crate) fn now(&self) -> bool {
        is_readable(self.file())
    }

    /// Waits until the result of [`now`](Self::now) may have changed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn wait(&self) {
        match self {
            Self::Pipe(pipe) => {
                // The readiness that the event loop remembers may be old. A look that finds nothing
                // clears it, and the event loop reports anything that arrives later.
                let look =
                    || if self.now() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
                while pipe.try_io(look).is_err() && pipe.readable().await.is_ok() {}
            }
            Self::Thread { ask, told, .. } => {
                // If full, an earlier wait that was cancelled has asked already, and the thread
                // will answer.
                let _ = ask.try_send(());
                told.notified().await;
            }
        }
    }
}

/// Returns true if a read would return data, the end of the file or an error at once.
pub(crate) fn is_readable(file: BorrowedFd<'_>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let look = || poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::IN)], Some(&at_once));
    // Retried after a signal, which says nothing about the file. For any other error returns true,
    // so that the read reports it.
    !matches!(retry_on_intr(look), Ok(0))
}

fn run(file: &OwnedFd, asked: &Receiver<()>, told: &Notify) {
    while asked.recv().is_ok() {
        // The result does not matter: the task that asked checks the file itself.
        let _ = poll(&mut [PollFd::new(file, PollFlags::IN)], None);
        told.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_readable_when_it_holds_data_and_at_its_end() {
        let (input, output) = io::pipe().unwrap();
        let readable = Readable::new(input.into()).unwrap();
        assert!(matches!(readable, Readable::Pipe(_)));
        says_when_there_is_something_and_at_the_end(&readable, output).await;
        let (input, output) = io::pipe().unwrap();
        let readable = Readable::with_thread(input.into()).unwrap();
        says_when_there_is_something_and_at_the_end(&readable, output).await;
    }

    async fn says_when_there_is_something_and_at_the_end(
        readable: &Readable,
        mut output: io::PipeWriter,
    ) {
        assert!(!readable.now());
        let given_up =
            tokio::time::timeout(std::time::Duration::from_millis(1), readable.wait()).await;
        assert!(given_up.is_err());
        output.write_all(b"x").unwrap();
        while !readable.now() {
            readable.wait().await;
        }
        let mut byte = [0];
        io::Read::read_exact(
            &mut std::fs::File::from(readable.file().try_clone_to_owned().unwrap()),
            &mut byte,
        )
        .unwrap();
        assert!(!readable.now());
        drop(output);
        readable.wait().await;
        assert!(readable.now());
    }

    #[tokio::test]
    async fn a_regular_file_is_always_readable() {
        let file = std::fs::File::open("Cargo.toml").unwrap();
        assert!(Readable::new(file.into()).unwrap().now());
    }
}
