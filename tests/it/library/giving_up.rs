//! Giving up at every await, and a daemon that stands still meanwhile, so that one must.

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

/// How often each side must give up while the daemon stands still.
pub(super) const TIMES: usize = 3;

/// So that the daemon and the other side come to their turn.
const PAUSE: Duration = Duration::from_micros(200);

/// Whoever reads, or whoever writes.
#[derive(Default)]
pub(super) struct Side(Cell<usize>);

impl Side {
    /// Polls something once, and gives it up if it is not done.
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

    /// Waits until this side has given up several times more. While the daemon stands still, it has
    /// to.
    pub(super) async fn gives_up(&self) {
        let enough = self.0.get() + TIMES;
        while self.0.get() < enough {
            sleep(PAUSE).await;
        }
    }
}

/// A daemon that stands still until this is dropped.
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

/// A time in which the daemon stands still and a writer writes on, until it has given up often
/// enough.
pub(super) struct Standstill<'a> {
    daemon: &'a Daemon,
    writes: &'a Side,
    reads: &'a Side,
    /// And how often the writer has given up when that is enough.
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

    /// Whether that was enough, or must be, because the writer may find room for everything.
    pub(super) fn is_over(&self, must_be: bool) -> bool {
        self.still.as_ref().is_some_and(|(_, enough)| must_be || self.writes.given_up() >= *enough)
    }

    /// Ends it when both sides have given up once more: the writer's `flush` tells whether it had
    /// to.
    pub(super) async fn end(&mut self, mut flush: impl AsyncFnMut() -> bool) {
        for _ in 0..TIMES {
            assert!(flush().await, "nobody can have acknowledged that");
        }
        self.reads.gives_up().await;
        self.still = None;
    }
}

/// Chunks of all sizes, those that are queued and those that are not.
pub(super) fn chunks() -> Vec<Bytes> {
    let sizes = [1, 7, 100, 4_000, 9_000, 70_000, 130_000, 200_000, 3, 256 * 1024];
    let chunk = |(n, size): (usize, &usize)| (0..*size).map(|at| (at * 31 + n * 7) as u8).collect();
    sizes.iter().cycle().take(60).enumerate().map(chunk).collect()
}
