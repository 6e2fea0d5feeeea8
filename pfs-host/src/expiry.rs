//! Expiry: removes streams whose time to live is over, and idle streams if `limits.idle_ttl`
//! is set.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{daemon::Daemon, mount::expire};

/// The longest sleep. Deadlines follow the system's clock, which may be set during a sleep without
/// waking it.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The shortest sleep, so that streams that expire one shortly after the other are
/// removed together.
const MIN_SLEEP: Duration = Duration::from_millis(10);

/// Removes expired streams for as long as the daemon runs. Never wakes a daemon whose streams have
/// no time limit.
pub async fn run(daemon: Arc<Daemon>) {
    loop {
        let left = daemon.registry.next_expiry();
        let is_due = async {
            match left {
                Some(left) => sleep(left.clamp(MIN_SLEEP, MAX_SLEEP)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = is_due => {}
            () = daemon.registry.expiry_is_sooner() => continue,
        }
        expire(&daemon.registry);
        // The last stream may be gone, so idle exit has to look.
        daemon.connections.emptied.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use pfs_stream::StreamConfig;

    use super::*;
    use crate::Settings;

    /// Short, because lifetimes follow a clock that a test cannot pause.
    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_stream_created_in_the_registry_expires_whether_or_not_another_one_expires_first() {
        let daemon = Arc::new(Daemon::new(&Settings::default()));
        tokio::spawn(run(Arc::clone(&daemon)));
        let make = |name: &str, config| daemon.registry().create(name, config).unwrap();
        for [mortal, later] in [["a", "b"], ["c", "d"]] {
            // Let the expiry task fall asleep.
            tokio::task::yield_now().await;
            make(mortal, StreamConfig::default().ttl(SHORT)).removed().await;
            make(later, StreamConfig::default().ttl(Duration::from_hours(1)));
        }
        tokio::task::yield_now().await;
        make("e", StreamConfig::default().deadline(SystemTime::now() + SHORT)).removed().await;
    }

    #[tokio::test]
    async fn a_new_idle_ttl_removes_an_existing_stream_and_none_is_removed_once_it_is_cleared() {
        let daemon = Arc::new(Daemon::new(&Settings::default()));
        let idle_ttl = |idle_ttl| daemon.set_limits(&Settings { idle_ttl, ..Settings::default() });
        tokio::spawn(run(Arc::clone(&daemon)));
        let stream = daemon.registry().create("/streamfs/s", StreamConfig::default()).unwrap();
        tokio::task::yield_now().await;
        idle_ttl(Some(SHORT));
        stream.removed().await;
        idle_ttl(None);
        assert_eq!(
            daemon.registry().create("/streamfs/s", StreamConfig::default()).unwrap().expires_in(),
            None
        );
        assert_eq!(daemon.registry().next_expiry(), None);
    }

    #[tokio::test]
    async fn the_idle_ttl_of_the_settings_applies_from_the_start() {
        let daemon =
            Arc::new(Daemon::new(&Settings { idle_ttl: Some(SHORT), ..Settings::default() }));
        tokio::spawn(run(Arc::clone(&daemon)));
        daemon.registry().create("/streamfs/s", StreamConfig::default()).unwrap().removed().await;
    }
}
