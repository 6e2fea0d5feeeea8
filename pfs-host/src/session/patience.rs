//! Time limit for writers that wait for `block` readers (`limits.max_block_time`).

use std::{convert::Infallible, future::pending, time::Duration};

use pfs_stream::Blockers;
use tokio::{sync::watch, task::yield_now, time::sleep};

/// The time limit of one writer.
#[derive(Debug)]
pub(crate) struct Patience {
    /// The path of the stream.
    path: String,
    blockers: Blockers,
    /// `None` lets writers wait for as long as the readers are attached.
    max_block_time: watch::Receiver<Option<Duration>>,
}

impl Patience {
    pub(crate) fn new(
        path: &str,
        blockers: Blockers,
        max_block_time: watch::Receiver<Option<Duration>>,
    ) -> Self {
        Self { path: path.to_owned(), blockers, max_block_time }
    }

    /// Waits until the time limit is over, and then turns each `block` reader that keeps the writer
    /// waiting into a `drop` reader. Never ready: poll it beside one append, for as long as that
    /// append waits.
    pub(crate) async fn enforce(&self) -> Infallible {
        let mut max_block_time = self.max_block_time.clone();
        loop {
            let limit = *max_block_time.borrow_and_update();
            let over = async {
                let Some(limit) = limit else { return pending().await };
                sleep(limit).await;
                limit
            };
            let limit = tokio::select! {
                biased;
                limit = over => limit,
                // The time restarts with the new limit.
                Ok(()) = max_block_time.changed() => continue,
            };
            while let Some(reader) = self.blockers.give_up_slowest() {
                let (stream, milliseconds) = (self.path.as_str(), limit.as_millis());
                let (pid, uid) = (reader.peer.pid, reader.peer.uid);
                let (position, lag) = (reader.position, reader.lag);
                tracing::warn!(
                    stream, pid, uid, position, lag, max_block_time_ms = %milliseconds,
                    "a block reader kept a writer waiting for too long; the reader is a drop reader now"
                );
                // Let the append try again.
                yield_now().await;
            }
        }
    }
}
