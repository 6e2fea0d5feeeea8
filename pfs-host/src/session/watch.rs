//! The *watch* session: the events of one stream.

use pfs_proto::{StreamEvent, StreamPath};
use pfs_stream::Events;
use tokio_util::sync::CancellationToken;

use crate::{Caller, Failure};

/// A watcher of a stream. Events that nobody takes wait in a queue of bounded length, and are counted where it is full.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    shutdown: CancellationToken,
    caller: Caller,
    path: StreamPath,
}

impl Watch {
    pub(crate) fn new(
        caller: &Caller,
        path: &StreamPath,
        events: Events,
        shutdown: CancellationToken,
    ) -> Self {
        let stream = path.as_str();
        caller.log(|pid, uid| tracing::debug!(stream, pid, uid, "watcher joined"));
        Self { events, shutdown, caller: caller.clone(), path: path.clone() }
    }

    /// The next event; `None` after the last one of a stream that was removed.
    ///
    /// # Errors
    ///
    /// The daemon ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has taken no event.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, Failure> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Failure::going_away()),
            event = self.events.next() => Ok(event),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let stream = self.path.as_str();
        self.caller.log(|pid, uid| tracing::debug!(stream, pid, uid, "watcher left"));
    }
}
