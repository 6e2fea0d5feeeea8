//! Removes streams whose time to live has run out.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{daemon::Daemon, mount::expire};

/// The longest sleep: the system's clock, by which deadlines go, may be set meanwhile, which a sleep does not notice.
const LONGEST: Duration = Duration::from_secs(60);

/// The shortest: streams that expire one after the other are taken together.
const SHORTEST: Duration = Duration::from_millis(10);

/// Runs for as long as the daemon. A daemon without mortal streams is never woken by it.
pub async fn run(daemon: Arc<Daemon>) {
    loop {
        let Some(left) = daemon.registry.next_expiry() else {
            daemon.mortal.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep(left.clamp(SHORTEST, LONGEST)) => {}
            // One that expires sooner may have been made.
            () = daemon.mortal.notified() => {}
        }
        expire(&daemon.registry);
        // The last stream may be gone.
        daemon.connections.emptied.notify_one();
    }
}
