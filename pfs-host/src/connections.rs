//! Connection limit and counter. Also detects when many connections have ended, so that their
//! memory can be given back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pfs_stream::{Budget, Reservation};
use tokio::{sync::Notify, time::sleep};

use crate::Daemon;

/// Minimum number of ended connections that justifies trimming the heap: 256 stalled readers had
/// about 20 MiB.
const MIN_ENDED_CONNECTIONS: u64 = 256;

/// Time for connections that end together to free their memory. Also the shortest time between two
/// calls of the function that [`after_many_ended`] was given.
const SETTLING_TIME: Duration = Duration::from_secs(2);

/// Slots for connections, and notifications about their end.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Budget,
    /// Peak number of connections since that function was last called.
    peak: AtomicU64,
    /// Notified when many connections have ended since the peak.
    fell: Notify,
    /// Notified when the last connection has ended.
    pub(crate) emptied: Notify,
}

/// A connection's slot. Dropping it returns the slot.
#[derive(Debug)]
pub struct Admitted {
    connections: Arc<Connections>,
    place: Option<Reservation>,
}

impl Connections {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            places: Budget::new(max),
            peak: AtomicU64::new(0),
            fell: Notify::new(),
            emptied: Notify::new(),
        }
    }

    pub(crate) fn max(&self) -> u64 {
        self.places.limit()
    }

    /// Changes the limit. Connections beyond a lower limit stay.
    pub(crate) fn set_max(&self, max: u64) {
        self.places.set_limit(max);
    }

    pub(crate) fn open(&self) -> u64 {
        self.places.used()
    }

    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let place = self.places.reserve(1)?;
        self.peak.fetch_max(self.open(), Relaxed);
        Some(Admitted { connections: Arc::clone(self), place: Some(place) })
    }

    fn have_fallen(&self) -> bool {
        let peak = self.peak.load(Relaxed);
        peak.saturating_sub(self.open()) >= MIN_ENDED_CONNECTIONS.max(peak / 2)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.place = None;
        if self.connections.have_fallen() {
            self.connections.fell.notify_one();
        }
        if self.connections.open() == 0 {
            self.connections.emptied.notify_one();
        }
    }
}

/// Calls `act` two seconds after many connections have ended: at least 256, and at least half of
/// the peak since the last call. Runs for as long as the daemon, and wakes only when many
/// connections have ended.
pub async fn after_many_ended(daemon: Arc<Daemon>, mut act: impl AsyncFnMut()) {
    let connections = daemon.connections();
    loop {
        connections.fell.notified().await;
        sleep(SETTLING_TIME).await;
        // The notification may be older than the last call of `act`, and new connections may have
        // replaced the ended ones.
        if connections.have_fallen() {
            connections.peak.store(connections.open(), Relaxed);
            act().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{task::yield_now, time::Instant};

    use super::*;
    use crate::Settings;

    /// Runs `clients`, and passes it the times at which `act` was called.
    async fn with_calls(clients: impl AsyncFnOnce(&Daemon, &Cell<Vec<Duration>>)) {
        let daemon =
            Arc::new(Daemon::new(&Settings { max_connections: 10_000, ..Settings::default() }));
        let (begun, times) = (Instant::now(), Cell::default());
        let calls = after_many_ended(Arc::clone(&daemon), async || {
            let mut all: Vec<Duration> = times.take();
            all.push(begun.elapsed());
            times.set(all);
        });
        tokio::select! {
            () = calls => {}
            () = clients(&daemon, &times) => {}
        }
    }

    fn admit(daemon: &Daemon, count: usize) -> Vec<Admitted> {
        (0..count).map(|_| daemon.admit().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_that_end_together_make_one_call_after_settling() {
        with_calls(async |daemon, calls| {
            let mut all = admit(daemon, 1000);
            all.truncate(501);
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(calls.take(), [], "fewer than half have ended");
            all.clear();
            sleep(SETTLING_TIME / 2).await;
            assert_eq!(calls.take(), [], "the memory of ended connections may not be free yet");
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(calls.take(), [Duration::from_secs(3602)]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_halving_of_connections_that_end_one_by_one_makes_a_call() {
        with_calls(async |daemon, calls| {
            let mut all = admit(daemon, 2000);
            while all.pop().is_some() {
                sleep(Duration::from_millis(100)).await;
            }
            sleep(SETTLING_TIME).await;
            let count = calls.take().len();
            assert!((3..=4).contains(&count), "{count} calls");
            assert_eq!(daemon.info().connections, 0);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn few_connections_and_replaced_connections_make_no_call() {
        with_calls(async |daemon, calls| {
            for _ in 0..1000 {
                drop(admit(daemon, 255));
                yield_now().await;
            }
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(calls.take(), []);
            let mut all = admit(daemon, 1000);
            for _ in 0..10 {
                all.clear();
                yield_now().await;
                all = admit(daemon, 1000);
                sleep(3 * SETTLING_TIME).await;
            }
            assert_eq!(calls.take(), []);
        })
        .await;
    }
}
