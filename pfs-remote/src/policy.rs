//! Slow policy of a link: `block` for as long as the replica has a `block` reader.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use pfs_host::{Failure, mount::Blocking};
use pfs_proto::SlowPolicy;
use pfs_stream::{Events, Stream};
use tokio::sync::{Notify, mpsc, oneshot};

/// Asks for a link that is a `block` reader at the owner, for a local reader that attaches while the
/// answer exists.
pub(crate) type Ask = oneshot::Sender<Result<Blocking, Failure>>;

/// The policy that a link has now.
#[derive(Debug)]
pub(crate) struct Policy {
    now: SlowPolicy,
    asks: mpsc::UnboundedReceiver<Ask>,
    stream: Stream,
    events: Events,
    attaching: Arc<Attaching>,
}

/// The local `block` readers that are about to attach.
#[derive(Debug, Default)]
struct Attaching {
    count: AtomicUsize,
    fewer: Notify,
}

/// The link needs another policy.
#[derive(Debug)]
pub(crate) enum Change {
    /// `block`. Answer with [`Policy::grant`], or with a failure.
    Block(Ask),
    /// `drop`: the last `block` reader has left.
    Drop,
}

impl Policy {
    pub(crate) fn new(
        now: SlowPolicy,
        asks: mpsc::UnboundedReceiver<Ask>,
        stream: &Stream,
    ) -> Self {
        let (stream, events) = (stream.clone(), stream.events());
        Self { now, asks, stream, events, attaching: Arc::default() }
    }

    /// The policy of a link that is attached now.
    pub(crate) fn for_new_link(&mut self) -> SlowPolicy {
        if !self.is_needed() {
            self.now = SlowPolicy::Drop;
        }
        self.now
    }

    /// Notes the policy of the link.
    pub(crate) fn set(&mut self, now: SlowPolicy) {
        self.now = now;
    }

    /// Waits until the link needs another policy.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) -> Change {
        loop {
            if self.now == SlowPolicy::Block && !self.is_needed() {
                return Change::Drop;
            }
            tokio::select! {
                biased;
                Some(ask) = self.asks.recv() => {
                    if self.now != SlowPolicy::Block {
                        return Change::Block(ask);
                    }
                    self.grant(ask);
                }
                Some(_) = self.events.next() => {}
                () = self.attaching.fewer.notified() => {}
            }
        }
    }

    /// Refuses all that ask. Never ends.
    pub(crate) async fn refuse(&mut self, failure: impl Fn() -> Failure) {
        while let Some(ask) = self.asks.recv().await {
            // The client may have left.
            let _ = ask.send(Err(failure()));
        }
        std::future::pending().await
    }

    /// Tells a client that the link is a `block` reader.
    pub(crate) fn grant(&mut self, ask: Ask) {
        self.now = SlowPolicy::Block;
        self.attaching.count.fetch_add(1, SeqCst);
        let attaching = Arc::clone(&self.attaching);
        let attached = move || {
            attaching.count.fetch_sub(1, SeqCst);
            attaching.fewer.notify_one();
        };
        // Dropped at once if the client has left.
        let _ = ask.send(Ok(Blocking::new(attached)));
    }

    /// Whether the replica has readers.
    pub(crate) fn has_readers(&self) -> bool {
        self.stream.readers() > 0
    }

    fn is_needed(&self) -> bool {
        // In this order: a reader that attaches is counted before it stops attaching.
        self.attaching.count.load(SeqCst) > 0 || self.stream.block_readers() > 0
    }
}
