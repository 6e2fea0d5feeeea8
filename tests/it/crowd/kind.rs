//! The kinds of readers, and how fast they read.

use std::time::Duration;

use harness::Random;
use tokio::{sync::watch::Receiver, task::yield_now, time::timeout};

/// By what a reader gets its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The library, which maps the ring.
    Shm,
    /// The library, over the Unix socket.
    Unix,
    /// The library, over HTTP.
    Frames,
    /// GET over HTTP/1.1.
    Body,
    /// GET over HTTP/2, with others on one connection.
    Multiplexed,
    /// Server-sent events.
    Events,
    /// Durable Streams, with long polls.
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

/// How fast a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It reads that it is attached, and nothing more before the end of the run.
    Stalled,
    /// It pauses after each piece.
    Slow,
    /// As fast as it can.
    Busy,
}

impl Pace {
    pub(super) const ALL: [Self; 3] = [Self::Stalled, Self::Slow, Self::Busy];

    /// The pause after a piece. At the end of the run all readers are busy ones.
    ///
    /// Thousands of readers take turns on few threads, and one that has much to read would not
    /// pause by itself: connections of others would be given up as silent.
    pub(super) async fn pause(self, over: &mut Receiver<bool>) {
        yield_now().await;
        let is_over = over.wait_for(|over| *over);
        match self {
            Self::Stalled => drop(is_over.await),
            Self::Slow => {
                let pause = Duration::from_millis(100 + Random::from_the_system().below(1500));
                // It is over, or the pause is.
                let _ = timeout(pause, is_over).await;
            }
            Self::Busy => {}
        }
    }
}
