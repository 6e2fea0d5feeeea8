//! Kinds of readers, and their reading speeds.

use std::time::Duration;

use harness::Random;
use tokio::{sync::watch::Receiver, task::yield_now, time::timeout};

/// How a reader gets its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client library, over shm.
    Shm,
    /// The client library, over the Unix socket.
    Unix,
    /// The client library, over HTTP.
    Frames,
    /// GET over HTTP/1.1.
    Body,
    /// GET over HTTP/2, on a connection shared with other readers.
    Multiplexed,
    /// Server-sent events.
    Events,
    /// Durable Streams with long polls.
    Pages,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Shm,
        Self::Unix,
        Self::Frames,
        Self::Body,
        Self::Multiplexed,
        Self::Events,
        Self::Pages,
    ];
}

/// Reading speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Reads nothing after its attachment until the end of the run.
    Stalled,
    /// Pauses after each piece.
    Slow,
    /// Never pauses.
    Busy,
}

impl Pace {
    pub(super) const ALL: [Self; 3] = [Self::Stalled, Self::Slow, Self::Busy];

    /// Pauses after a piece. At the end of the run no reader pauses.
    ///
    /// Thousands of readers share few threads, so even a busy reader yields here. Without that, a
    /// reader with much to read would not yield by itself, and the daemon would close the
    /// connections of others as silent.
    pub(super) async fn pause(self, over: &mut Receiver<bool>) {
        yield_now().await;
        let is_over = over.wait_for(|over| *over);
        match self {
            Self::Stalled => drop(is_over.await),
            Self::Slow => {
                let pause = Duration::from_millis(100 + Random::from_the_system().below(1500));
                // Either the run or the pause has ended.
                let _ = timeout(pause, is_over).await;
            }
            Self::Busy => {}
        }
    }
}
