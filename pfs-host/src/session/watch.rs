//! The *watch* session: the events of one stream.

use pfs_proto::{StreamEvent, StreamPath};

use crate::{Caller, Cutoff, Failure, mount::Events};

/// A watcher of a stream. Pending events wait in a queue of bounded length. Events that find the
/// queue full are only counted.
#[derive(Debug)]
pub struct Watch {
    events: Box<dyn Events>,
    cutoff: Cutoff,
    caller: Caller,
    path: StreamPath,
}

impl Watch {
    pub(crate) fn new(
        caller: &Caller,
        path: &StreamPath,
        events: Box<dyn Events>,
        cutoff: Cutoff,
    ) -> Self {
        let stream = path.as_str();
        caller.log(|pid, uid| tracing::debug!(stream, pid, uid, "watcher joined"));
        Self { events, cutoff, caller: caller.clone(), path: path.clone() }
    }

    /// The next event. `None` after the last event of a removed stream.
    ///
    /// # Errors
    ///
    /// The watcher is cut off, or the daemon that owns the stream cannot be reached any more.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, no event is lost.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, Failure> {
        tokio::select! {
            biased;
            failure = self.cutoff.reached() => Err(failure),
            event = self.events.next() => event,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let stream = self.path.as_str();
        self.caller.log(|pid, uid| tracing::debug!(stream, pid, uid, "watcher left"));
    }
}
