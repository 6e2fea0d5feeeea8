//! How long a stream lives, unless it is removed before. A time to live is measured by a clock that
//! cannot be set; only a deadline is a time of day.

use std::time::Duration;

use crate::{
    clock,
    sync::{AtomicU64, AtomicUsize, Ordering},
};

/// When a stream was last used. Times are as [`clock::elapsed`] has them.
#[derive(Debug)]
pub(crate) struct Lifetime {
    /// When it was made or last used; an append is noted only where it renews a time to live.
    used: AtomicU64,
    /// When a reader or a writer last left it; 0 before.
    left: AtomicU64,
    /// Those who use it all the time, besides readers and writers.
    holds: AtomicUsize,
    /// Its place in its registry's queue. Only for who has the lock of that.
    due: AtomicU64,
}

impl Lifetime {
    pub(crate) fn new() -> Self {
        let (used, holds) = (AtomicU64::new(clock::elapsed()), AtomicUsize::new(0));
        Self { used, left: AtomicU64::new(0), holds, due: AtomicU64::new(0) }
    }

    /// Begins the time to live anew.
    pub(crate) fn renew(&self) {
        self.used.fetch_max(clock::elapsed(), Ordering::AcqRel);
    }

    /// Begins one more use that goes on until [`reclaim`](Self::reclaim).
    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends such a use. The time to live begins anew.
    pub(crate) fn reclaim(&self) {
        self.renew();
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }

    /// Notes that a reader or a writer leaves, which is counted until after that.
    pub(crate) fn leave(&self) {
        self.left.fetch_max(clock::elapsed(), Ordering::AcqRel);
    }

    /// How long nobody has used it, except by reading.
    pub(crate) fn unused_for(&self) -> Duration {
        self.passed_since(self.used.load(Ordering::Acquire))
    }

    /// How long nobody has used it, if no reader and no writer is attached now. Every append has a
    /// writer, which leaves later.
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
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
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
    fn what_is_used_lives_on_from_its_last_use() {
        let (_, stream) = registry_with(StreamConfig { ttl: Some(TTL), ..Default::default() });
        std::thread::sleep(Duration::from_millis(2));
        let left = stream.expires_in().unwrap();
        stream.renew();
        assert!(left < TTL && stream.expires_in().unwrap() > left);
    }

    #[test]
    fn what_is_held_does_not_expire_and_begins_anew_afterwards() {
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
            "its life begins anew"
        );
        assert_eq!(registry.expire(TTL), ["s"]);
    }

    #[test]
    fn a_deadline_comes_whatever_is_done_with_the_stream() {
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
    fn a_clock_that_is_set_ends_no_time_to_live() {
        // As if the time of day had been set forward since the stream was made and appended to.
        let (registry, stream) =
            registry_with(StreamConfig { ttl: Some(TTL), ..Default::default() });
        stream.writer().unwrap().try_append(b"x").unwrap();
        lock(&stream.shared.append).newest = 1;
        assert!(stream.expires_in().unwrap() > TTL / 2);
        assert!(registry.expire(Duration::ZERO).is_empty());
    }
}
