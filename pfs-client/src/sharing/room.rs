//! Waiting for room in a leased ring: for the `block` readers themselves at first, and then for the daemon.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

/// How long the holder of a lease waits for readers before it asks the daemon, which knows whether they are still there, and gives up those
/// that take too long.
const READER_TIMEOUT: Duration = Duration::from_millis(10);

/// What the holder of a lease waits with.
#[derive(Debug)]
pub(crate) struct Room {
    /// The event counter that readers add to.
    event: AsyncFd<OwnedFd>,
    timeout: Pin<Box<Sleep>>,
    is_waiting: bool,
    has_asked: bool,
}

impl Room {
    pub(crate) fn new(event: OwnedFd, runtime: &Handle) -> io::Result<Self> {
        // A writer may be polled outside of its runtime.
        let _guard = runtime.enter();
        // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and this one is moved into the `AsyncFd`.
        #[allow(unsafe_code, reason = "any type may be registered, also one whose descriptor changes")]
        let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }?;
        Ok(Self { event, timeout: Box::pin(sleep(Duration::ZERO)), is_waiting: false, has_asked: false })
    }

    /// Begins to wait, unless it does already. Where no reader will add to the counter, the daemon is to be asked at once.
    pub(crate) fn begin(&mut self, readers_tell: bool) {
        if !std::mem::replace(&mut self.is_waiting, true) {
            let timeout = if readers_tell { READER_TIMEOUT } else { Duration::ZERO };
            self.timeout.as_mut().reset(Instant::now() + timeout);
        }
    }

    /// There is room.
    pub(crate) fn end(&mut self) {
        self.is_waiting = false;
    }

    /// The daemon has answered.
    pub(crate) fn has_heard(&mut self) {
        self.has_asked = false;
    }

    /// Ready when it is time to look for room again: a reader has made some. `ask` is called when the daemon is to be asked for room; its
    /// answer is on the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, ask: impl FnOnce()) -> Poll<()> {
        if !self.has_asked && self.timeout.as_mut().poll(cx).is_ready() {
            self.has_asked = true;
            ask();
        }
        loop {
            // Without the counter, the daemon's answers do.
            let Ok(mut ready) = ready!(self.event.poll_read_ready(cx)) else { return Poll::Pending };
            match rustix::io::read(ready.get_inner(), &mut [0; 8]) {
                // The counter is 0 again: whatever is added now makes it ready anew.
                Ok(_) => {
                    ready.clear_ready();
                    return Poll::Ready(());
                }
                Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Poll::Pending,
            }
        }
    }
}
