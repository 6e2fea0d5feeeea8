//! Time to live and idle time of a stream. A time to live is measured by a monotonic clock, which
//! cannot be set; only a deadline is a time of day.

use std::time::Duration;

use crate::{
    clock,
    sync::{AtomicU64, AtomicUsize, Ordering},
};

/// Records when a stream was last used. Times are those of [`clock::elapsed`].
#[derive(Debug)]
pub(crate) struct Lifetime {
    /// When the stream was created or last used. Appends count only if they renew a time to live.
    used: AtomicU64,
    /// When a reader or a writer last detached; 0 before.
    left: AtomicU64,
    /// Number of [holds](crate::Hold), which count as constant use besides readers and writers.
    holds: AtomicUsize,
    /// The stream's place in its registry's expiry queue. Accessed only under the queue's lock.
    due: AtomicU64,
}

impl Lifetime {
    pub(crate) fn new() -> Self {
        let (used, holds) = (AtomicU64::new(clock::elapsed()), AtomicUsize::new(0));
        Self { used, left: AtomicU64::new(0), holds, due: AtomicU64::new(0) }
    }

    /// Restarts the time to live.
    pub(crate) fn renew(&self) {
        self.used.fetch_max(clock::elapsed(), Ordering::AcqRel);
    }

    /// Begins a use that lasts until [`reclaim`](Self::reclaim).
    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends a use that [`hold`](Self::hold) began. The time to live restarts.
    pub(crate) fn reclaim(&self) {
        self.renew();
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }

    /// Records that a reader or a writer detaches. Called before the reader or writer is removed
    /// from the count.
    pub(crate) fn leave(&self) {
        self.left.fetch_max(clock::elapsed(), Ordering::AcqRel);
    }

    /// How long the stream was not used. Reading is not a use.
    pub(crate) fn unused_for(&self) -> Duration {
        self.passed_since(self.used.load(Ordering::Acquire))
    }

    /// How long the stream was idle. Only meaningful if no reader and no writer is attached now.
    /// Appends are covered, because each append has a writer, which detaches later.
    pub(crate) fn idle_for(&self) -> Duration {
        self.passed_since(self.used.load(Ordering::Acquire).max(self.left.load(Ordering::Acquire)))
    }

    fn passed_since(&self, last: u64) -> Duration {
        if self.holds.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(clock::elapsed().saturating_sub(last))
    }

    pub(crate) fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    pub(crate) fn set_due(&self, due: u64) {
        self.due.store(due, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Limits, Registry, Stream, StreamConfig, sync::lock};

    const TTL: Duration = Duration::from_secs(10);

    fn registry_with(config: StreamConfig) -> (Registry, Stream) {
        let registry = Registry::new(Limits::default());
        let stream = registry.create("s", config).unwrap();
        (registry, stream)
    }

    #[test]
    fn a_time_to_live_restarts_at_each_use() {
        let (_, stream) = registry_with(StreamConfig { ttl: Some(TTL), ..Default::default() });
        std::thread::sleep(Duration::from_millis(2));
        let left = stream.expires_in().unwrap();
        stream.renew();
        assert!(left < TTL && stream.expires_in().unwrap() > left);
    }

    #[test]
    fn a_held_stream_does_not_expire_and_its_time_to_live_restarts_afterwards() {
        let (registry, stream) = registry_with(StreamConfig {
            ttl: Some(Duration::from_millis(1)),
            ..Default::default()
        });
        let hold = stream.hold();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(stream.expires_in(), Some(Duration::from_millis(1)));
        assert!(registry.expire(Duration::ZERO).is_empty());
        let before = clock::elapsed();
        drop(hold);
        assert!(
            stream.shared.lifetime.used.load(Ordering::Relaxed) >= before,
            "the lifetime starts over"
        );
        assert_eq!(registry.expire(TTL), ["s"]);
    }

    #[test]
    fn a_deadline_applies_to_a_stream_in_use() {
        let deadline = SystemTime::now() + TTL;
        let (registry, stream) = registry_with(StreamConfig {
            deadline: Some(deadline),
            ttl: Some(2 * TTL),
            ..Default::default()
        });
        let _hold = stream.hold();
        stream.renew();
        assert!(stream.expires_in().is_some_and(|left| left <= TTL));
        assert!(registry.expire(Duration::ZERO).is_empty());
        assert_eq!(registry.expire(TTL), ["s"]);
    }

    #[test]
    fn setting_the_system_clock_does_not_end_a_time_to_live() {
        // Sets the time of the last append as if the time of day had been set forward since.
        let (registry, stream) =
            registry_with(StreamConfig { ttl: Some(TTL), ..Default::default() });
        stream.writer().unwrap().try_append(b"x").unwrap();
        lock(&stream.shared.append).newest = 1;
        assert!(stream.expires_in().unwrap() > TTL / 2);
        assert!(registry.expire(Duration::ZERO).is_empty());
    }
}
