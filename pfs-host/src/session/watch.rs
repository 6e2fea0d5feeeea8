//! The *watch* session: the events of one stream.

use pfs_proto::{StreamEvent, StreamPath};
use pfs_stream::Events;

use crate::{Caller, Cutoff, Failure};

/// A watcher of a stream. Events that nobody takes wait in a queue of bounded length, and are
/// counted where it is full.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    cutoff: Cutoff,
    caller: Caller,
    path: StreamPath,
}

impl Watch {
    pub(crate) fn new(caller: &Caller, path: &StreamPath, events: Events, cutoff: Cutoff) -> Self {
        let stream = path.as_str();
        caller.log(|pid, uid| tracing::debug!(stream, pid, uid, "watcher joined"));
        Self { events, cutoff, caller: caller.clone(), path: path.clone() }
    }

    /// The next event; `None` after the last one of a stream that was removed.
    ///
    /// # Errors
    ///
    /// The watcher is cut off.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has taken no event.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, Failure> {
        tokio::select! {
            biased;
            failure = self.cutoff.reached() => Err(failure),
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
