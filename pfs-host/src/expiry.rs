//! Removes streams whose time to live has run out.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{daemon::Daemon, mount::expire};

/// The longest sleep: the system's clock, by which deadlines go, may be set meanwhile, which a sleep does not notice.
const LONGEST: Duration = Duration::from_secs(60);

/// The shortest: streams that expire one after the other are taken together.
const SHORTEST: Duration = Duration::from_millis(10);

/// Runs for as long as the daemon. A daemon without mortal streams is never woken by it.
pub async fn run(daemon: Arc<Daemon>) {
    loop {
        let left = daemon.registry.next_expiry();
        let is_due = async {
            match left {
                Some(left) => sleep(left.clamp(SHORTEST, LONGEST)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = is_due => {}
            () = daemon.registry.expiry_is_sooner() => continue,
        }
        expire(&daemon.registry);
        // The last stream may be gone.
        daemon.connections.emptied.notify_one();
    }
}
