//! Noticing that the daemon has something to say, or is gone, while a thread sleeps on a ring's bell.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pfs_stream::mapped::Bell;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;

/// A rouse that comes just before the sleeper falls asleep is missed, so it is repeated until the sleeper has heard.
const AGAIN: Duration = Duration::from_millis(10);

/// A thread that watches the connection and rouses whoever sleeps on the bell.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Arc<UnixStream>,
    said: Arc<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// There is something on the connection.
    something: AtomicBool,
    /// The sleeper knows.
    heard: AtomicBool,
}

impl Watch {
    pub(crate) fn new(socket: &Arc<UnixStream>, bell: Bell) -> io::Result<Self> {
        let said = Arc::<Said>::default();
        let (their_socket, theirs) = (Arc::clone(socket), Arc::clone(&said));
        thread::Builder::new()
            .name("pfs-watch".to_owned())
            .stack_size(64 << 10)
            .spawn(move || run(&their_socket, &theirs, &bell))?;
        Ok(Self { socket: Arc::clone(socket), said })
    }

    /// Whether the connection has news, or has ended. Then nothing more will come of sleeping.
    pub(crate) fn has_news(&self) -> bool {
        let something = self.said.something.load(Ordering::Acquire);
        if something {
            self.said.heard.store(true, Ordering::Release);
        }
        something
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.said.heard.store(true, Ordering::Release);
        // Ends the connection, which the thread sees. Fails only if it has ended already.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }
}

fn run(socket: &UnixStream, said: &Said, bell: &Bell) {
    // Whatever ends the waiting, the sleeper looks for itself; only a signal does not count.
    while poll(&mut [PollFd::new(socket, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
    said.something.store(true, Ordering::Release);
    while !said.heard.load(Ordering::Acquire) {
        bell.rouse();
        thread::sleep(AGAIN);
    }
}
