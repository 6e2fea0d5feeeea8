//! Back-pressure under a lease: waits for room in the ring buffer, first for the `block` readers
//! themselves and then for the daemon.

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

/// How long the lease holder waits for readers before it asks the daemon. The daemon knows whether
/// the readers are still there, and gives up readers that take too long.
const READER_TIMEOUT: Duration = Duration::from_millis(10);

/// The state of a lease holder's wait for room.
#[derive(Debug)]
pub(crate) struct Room {
    /// The event counter that readers increment.
    event: AsyncFd<OwnedFd>,
    timeout: Pin<Box<Sleep>>,
    is_waiting: bool,
    has_asked: bool,
}

impl Room {
    pub(crate) fn new(event: OwnedFd, runtime: &Handle) -> io::Result<Self> {
        // The writer may be polled outside of its runtime.
        let _guard = runtime.enter();
        // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and this
        // `OwnedFd` is moved into the `AsyncFd`.
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

    /// Ends the wait, because there is room.
    pub(crate) fn end(&mut self) {
        self.is_waiting = false;
    }

    /// Records the daemon's answer.
    pub(crate) fn has_heard(&mut self) {
        self.has_asked = false;
    }

    /// Ready once a reader has made room since the last call, so that the caller can try again.
    /// Calls `ask` if the daemon must be asked for room: at once if readers do not increment the
    /// counter (`asks_readers` is false), otherwise after [`READER_TIMEOUT`], and never while an
    /// answer is outstanding. The answer arrives over the connection.
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
            // If the counter fails, the daemon's answers are enough.
            let Ok(mut ready) = ready!(self.event.poll_read_ready(cx)) else {
                return Poll::Pending;
            };
            match rustix::io::read(ready.get_inner(), &mut [0; 8]) {
                // The counter is 0 again. The next increment makes it ready again.
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
