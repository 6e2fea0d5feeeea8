//! Idle exit: ends a daemon that nobody has used for a while.

use std::{future::pending, sync::Arc};

use tokio::time::sleep;

use crate::Daemon;

/// Ends the daemon after `limits.idle_exit` without streams and connections, counted from the end
/// of the last one. Returns when the shutdown has begun. Never wakes a daemon in use. A reload of
/// the limit takes effect at once.
pub async fn exit_when_idle(daemon: Arc<Daemon>) {
    let mut limit = daemon.idle_exit.subscribe();
    loop {
        let time = *limit.borrow_and_update();
        let is_idle = daemon.connections.open() == 0 && daemon.registry.is_empty();
        let idle_long = async {
            match time {
                Some(time) if is_idle => sleep(time).await,
                _ => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = daemon.shutdown().cancelled() => return,
            // A client came and went, or a stream expired: start the waiting time again.
            () = daemon.connections.emptied.notified() => continue,
            // Cannot fail: `daemon` holds the sender.
            _ = limit.changed() => continue,
            () = idle_long => {}
        }
        if daemon.stop_if_idle() {
            let time = time.unwrap_or_default();
            tracing::info!(idle_exit = ?time, "the daemon is idle; shutting down (limits.idle_exit)");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pfs_stream::StreamConfig;
    use tokio::{
        task::JoinHandle,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::{Settings, expire};

    const LIMIT: Duration = Duration::from_secs(600);

    fn settings(idle_exit: Option<Duration>) -> Settings {
        Settings { idle_exit, ..Settings::default() }
    }

    /// Starts a daemon with expiry and idle exit. The handle returns how long the daemon ran.
    fn daemon(idle_exit: Option<Duration>) -> (Arc<Daemon>, JoinHandle<Duration>) {
        let daemon = Arc::new(Daemon::new(&settings(idle_exit)));
        tokio::spawn(expire(Arc::clone(&daemon)));
        let (begun, ending) = (Instant::now(), exit_when_idle(Arc::clone(&daemon)));
        let ended = tokio::spawn(async move {
            ending.await;
            begun.elapsed()
        });
        (daemon, ended)
    }

    async fn at(seconds: u64, begun: Instant) {
        tokio::time::sleep_until(begun + Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_daemon_ends_after_idle_exit() {
        let (daemon, ended) = daemon(Some(LIMIT));
        assert_eq!(ended.await.unwrap(), LIMIT);
        assert!(daemon.shutdown().is_cancelled());
        assert!(daemon.admit().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_end_of_the_last_connection() {
        let (daemon, ended) = daemon(Some(LIMIT));
        let begun = Instant::now();
        at(599, begun).await;
        let (first, second) = (daemon.admit().unwrap(), daemon.admit().unwrap());
        at(5000, begun).await;
        drop(first);
        at(5100, begun).await;
        drop(second);
        // A connection that ends at once restarts the time.
        at(5200, begun).await;
        drop(daemon.admit().unwrap());
        assert_eq!(ended.await.unwrap(), Duration::from_secs(5800));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_delays_idle_exit_until_it_is_removed() {
        let (daemon, ended) = daemon(Some(LIMIT));
        let begun = Instant::now();
        let client = daemon.admit().unwrap();
        let stream = daemon.registry().create("/streamfs/s", StreamConfig::default()).unwrap();
        drop(client);
        at(1000, begun).await;
        let client = daemon.admit().unwrap();
        daemon.registry().remove_stream(&stream);
        drop(client);
        assert_eq!(ended.await.unwrap(), Duration::from_secs(1600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_delays_idle_exit_until_it_expires() {
        let (daemon, ended) = daemon(Some(LIMIT));
        let client = daemon.admit().unwrap();
        // The stream's lifetime follows a clock that a test cannot pause.
        let mortal =
            StreamConfig { ttl: Some(Duration::from_millis(5)), ..StreamConfig::default() };
        daemon.registry().create("/streamfs/s", mortal).unwrap();
        drop(client);
        let ended = timeout(100 * LIMIT, ended).await.expect("the daemon ends").unwrap();
        assert!(ended > LIMIT, "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_the_daemon_runs_until_a_reload_sets_one() {
        let (daemon, ended) = daemon(None);
        let begun = Instant::now();
        at(100_000, begun).await;
        assert!(!daemon.shutdown().is_cancelled());
        daemon.set_limits(&settings(Some(LIMIT)));
        at(100_300, begun).await;
        daemon.set_limits(&settings(None));
        at(200_000, begun).await;
        daemon.set_limits(&settings(Some(2 * LIMIT)));
        assert_eq!(ended.await.unwrap(), Duration::from_secs(201_200));
    }
}
