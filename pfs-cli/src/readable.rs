//! Whether standard input can be read without waiting, and waiting until it can.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use tokio::sync::Notify;

/// A file that stays in blocking mode, which it shares with other processes.
///
/// A thread waits for it: an event loop cannot watch every kind of file, and the thread touches no byte of it.
#[derive(Debug)]
pub(crate) struct Readable {
    file: Arc<OwnedFd>,
    /// Asks the thread to wait; full while it does.
    ask: SyncSender<()>,
    told: Arc<Notify>,
}

impl Readable {
    /// For a duplicate of the file's descriptor.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        let (file, told) = (Arc::new(file), Arc::<Notify>::default());
        let (ask, asked) = sync_channel(1);
        let (their_file, theirs) = (Arc::clone(&file), Arc::clone(&told));
        thread::Builder::new()
            .name("readable".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || run(&their_file, &asked, &theirs))?;
        Ok(Self { file, ask, told })
    }

    /// Whether a read would give something, an end or an error at once.
    pub(crate) fn now(&self) -> bool {
        let mut file = [PollFd::new(&*self.file, PollFlags::IN)];
        // An error, too, is for the read to tell.
        !matches!(poll(&mut file, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }

    /// Waits until that may have changed. Cancel safe.
    pub(crate) async fn wait(&self) {
        // Full: it was asked before, by a wait that was given up, and will tell.
        let _ = self.ask.try_send(());
        self.told.notified().await;
    }
}

fn run(file: &OwnedFd, asked: &Receiver<()>, told: &Notify) {
    while asked.recv().is_ok() {
        // Whatever ends the waiting, whoever asked looks for itself.
        let _ = poll(&mut [PollFd::new(file, PollFlags::IN)], None);
        told.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_readable_when_something_is_in_it_and_at_its_end() {
        let (input, mut output) = io::pipe().unwrap();
        let readable = Readable::new(input.into()).unwrap();
        assert!(!readable.now());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(1), readable.wait()).await;
        assert!(given_up.is_err());
        output.write_all(b"x").unwrap();
        while !readable.now() {
            readable.wait().await;
        }
        readable.wait().await;
        drop(output);
        assert!(readable.now());
    }

    #[tokio::test]
    async fn a_regular_file_is_always_readable() {
        let file = std::fs::File::open("Cargo.toml").unwrap();
        assert!(Readable::new(file.into()).unwrap().now());
    }
}
