//! Waiting for room in a leased ring: for the `block` readers themselves at first, and then for the
//! daemon.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

/// How long the holder of a lease waits for readers before it asks the daemon, which knows whether
/// they are still there, and gives up those that take too long.
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
        // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and this one
        // is moved into the `AsyncFd`.
        #[allow(
            unsafe_code,
            reason = "any type may be registered, also one whose descriptor changes"
        )]
        let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }?;
        Ok(Self {
            event,
            timeout: Box::pin(sleep(Duration::ZERO)),
            is_waiting: false,
            has_asked: false,
        })
    }

    /// There is room: the wait is over.
    pub(crate) fn end(&mut self) {
        self.is_waiting = false;
    }

    /// The daemon has answered.
    pub(crate) fn has_heard(&mut self) {
        self.has_asked = false;
    }

    /// Ready when a reader has made room since the last call, so that it is time to try again.
    /// Calls `ask` when the daemon must be asked for room: at once if no reader adds to the
    /// counter (`asks_readers` is false), otherwise after [`READER_TIMEOUT`], and never while an
    /// answer is due. The answer comes over the connection.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        asks_readers: bool,
        ask: impl FnOnce(),
    ) -> Poll<()> {
        if !std::mem::replace(&mut self.is_waiting, true) && asks_readers {
            self.timeout.as_mut().reset(Instant::now() + READER_TIMEOUT);
        }
        if !self.has_asked && (!asks_readers || self.timeout.as_mut().poll(cx).is_ready()) {
            self.has_asked = true;
            ask();
        }
        loop {
            // Without the counter, the daemon's answers do.
            let Ok(mut ready) = ready!(self.event.poll_read_ready(cx)) else {
                return Poll::Pending;
            };
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
