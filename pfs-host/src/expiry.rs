//! Removes streams whose time to live has run out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use crate::{daemon::Daemon, mount::expire};

/// The longest sleep: the system's clock may be set meanwhile, which a sleep does not notice.
const LONGEST: Duration = Duration::from_secs(60);

/// The shortest: streams that expire one after the other are taken together.
const SHORTEST: Duration = Duration::from_millis(10);

/// Runs for as long as the daemon. A daemon without mortal streams is never woken by it.
pub async fn run(daemon: Arc<Daemon>) {
    loop {
        let Some(next) = daemon.registry.next_expiry() else {
            daemon.mortal.notified().await;
            continue;
        };
        let left = next.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = sleep(left.clamp(SHORTEST, LONGEST)) => {}
            // One that expires sooner may have been made.
            () = daemon.mortal.notified() => {}
        }
        expire(&daemon.registry, SystemTime::now());
    }
}
