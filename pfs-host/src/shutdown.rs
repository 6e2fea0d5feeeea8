//! How the daemon is told to end, and how it tells its connections.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

/// How long connections may take for their last words before they are cut.
pub const GRACE: Duration = Duration::from_secs(4);

/// Tells every [`Going`] that the daemon ends.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Knows whether the daemon is ending.
#[derive(Clone, Debug)]
pub struct Going(watch::Receiver<bool>);

/// A trigger, and what hears it.
pub fn channel() -> (Trigger, Going) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Going(receiver))
}

impl Trigger {
    /// The daemon ends from now on.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Going {
    /// Whether the daemon has begun to end.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the daemon begins to end. Cancel safe.
    pub async fn begun(&mut self) {
        // An error would mean that the daemon's own task is gone, which is an end too.
        let _ = self.0.wait_for(|going| *going).await;
    }

    /// Waits until the daemon has been ending for so long that something stuck must be given up.
    pub async fn patience(&mut self) {
        self.begun().await;
        sleep(GRACE / 2).await;
    }
}
