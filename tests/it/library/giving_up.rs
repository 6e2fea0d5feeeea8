//! Cancellation at every await, with a daemon that is stopped meanwhile so that futures must
//! be pending.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use harness::{Daemon, Signal};
use tokio::time::sleep;

/// How often each side must cancel while the daemon is stopped.
pub(super) const TIMES: usize = 3;

/// Lets the daemon and the other side run.
const PAUSE: Duration = Duration::from_micros(200);

/// The reading or writing side, with a count of its cancelled futures.
#[derive(Default)]
pub(super) struct Side(Cell<usize>);

impl Side {
    /// Polls a future once, and drops it if it is pending.
    pub(super) async fn once<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let polled = {
            let mut work = pin!(work);
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => Poll::Ready(None),
            })
            .await
        };
        if polled.is_none() {
            self.0.set(self.0.get() + 1);
            sleep(PAUSE).await;
        }
        polled
    }

    fn given_up(&self) -> usize {
        self.0.get()
    }

    /// Waits until this side has cancelled [`TIMES`] more futures. While the daemon is stopped, it
    /// has to.
    pub(super) async fn gives_up(&self) {
        let enough = self.0.get() + TIMES;
        while self.0.get() < enough {
            sleep(PAUSE).await;
        }
    }
}

/// Stopped daemon, which continues when this value is dropped.
pub(super) struct Still<'a>(&'a Daemon);

impl<'a> Still<'a> {
    pub(super) fn new(daemon: &'a Daemon) -> Self {
        let still = Self(daemon);
        daemon.signal(Signal::STOP);
        still
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

/// Period in which the daemon is stopped and a writer goes on, until the writer has cancelled
/// often enough.
pub(super) struct Standstill<'a> {
    daemon: &'a Daemon,
    writes: &'a Side,
    reads: &'a Side,
    /// The stopped daemon, and the writer's count of cancellations that ends the period.
    still: Option<(Still<'a>, usize)>,
}

impl<'a> Standstill<'a> {
    pub(super) fn new(daemon: &'a Daemon, writes: &'a Side, reads: &'a Side) -> Self {
        Self { daemon, writes, reads, still: None }
    }

    pub(super) fn begin(&mut self) {
        let enough = self.writes.given_up() + TIMES;
        self.still = Some((Still::new(self.daemon), enough));
    }

    /// Returns true if the writer has cancelled often enough. `must_be` ends the period in any
    /// case, because the writer may find room for everything.
    pub(super) fn is_over(&self, must_be: bool) -> bool {
        self.still.as_ref().is_some_and(|(_, enough)| must_be || self.writes.given_up() >= *enough)
    }

    /// Ends the period after both sides have cancelled [`TIMES`] more. `flush` flushes the writer
    /// and returns true if that was cancelled.
    pub(super) async fn end(&mut self, mut flush: impl AsyncFnMut() -> bool) {
        for _ in 0..TIMES {
            assert!(flush().await, "nobody can have acknowledged that");
        }
        self.reads.gives_up().await;
        self.still = None;
    }
}

/// Chunks of all sizes, queued ones and others.
pub(super) fn chunks() -> Vec<Bytes> {
    let sizes = [1, 7, 100, 4_000, 9_000, 70_000, 130_000, 200_000, 3, 256 * 1024];
    let chunk = |(n, size): (usize, &usize)| (0..*size).map(|at| (at * 31 + n * 7) as u8).collect();
    sizes.iter().cycle().take(60).enumerate().map(chunk).collect()
}
