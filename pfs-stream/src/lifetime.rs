//! How long a stream lives, unless it is removed before.

use std::time::SystemTime;

use crate::{
    Stream, clock,
    sync::{AtomicU64, AtomicUsize, Ordering, lock},
};

/// Who uses a stream besides those who append to it.
#[derive(Debug)]
pub(crate) struct Lifetime {
    /// When it was last used, in microseconds since the Unix epoch; 0 if never.
    renewed: AtomicU64,
    /// Those who use it all the time.
    holds: AtomicUsize,
}

impl Lifetime {
    pub(crate) fn new() -> Self {
        Self { renewed: AtomicU64::new(0), holds: AtomicUsize::new(0) }
    }
}

/// Keeps a stream's time to live from running out, and begins it anew when dropped.
#[derive(Debug)]
pub struct Hold(Stream);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.renew();
        self.0.shared.lifetime.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Stream {
    /// Begins its time to live anew, as an append does.
    pub fn renew(&self) {
        self.shared.lifetime.renewed.fetch_max(clock::now(), Ordering::AcqRel);
    }

    /// Keeps its time to live from running out for as long as this is held.
    pub fn hold(&self) -> Hold {
        self.shared.lifetime.holds.fetch_add(1, Ordering::AcqRel);
        Hold(self.clone())
    }

    /// When it is to be removed, as things stand: when its time to live runs out, or at its deadline.
    pub fn expires(&self) -> Option<SystemTime> {
        let config = &self.shared.config;
        let idle = config.ttl.and_then(|ttl| self.last_use().checked_add(ttl));
        idle.into_iter().chain(config.deadline).min()
    }

    fn last_use(&self) -> SystemTime {
        let Lifetime { renewed, holds } = &self.shared.lifetime;
        if holds.load(Ordering::Acquire) > 0 {
            return SystemTime::now();
        }
        let appended = lock(&self.shared.append).last_append();
        let renewed = clock::time(renewed.load(Ordering::Acquire));
        appended.map_or(self.shared.created, clock::time).max(renewed)
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Limits, Registry, StreamConfig};

    const TTL: Duration = Duration::from_secs(10);

    fn registry_with(config: StreamConfig) -> (Registry, Stream) {
        let registry = Registry::new(Limits::default());
        let stream = registry.create("s", config).unwrap();
        (registry, stream)
    }

    #[test]
    fn what_is_used_lives_on_from_its_last_use() {
        let (_, stream) = registry_with(StreamConfig { ttl: Some(TTL), ..Default::default() });
        let created = stream.expires().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        stream.renew();
        assert!(stream.expires().unwrap() > created);
    }

    #[test]
    fn what_is_held_does_not_expire_and_begins_anew_afterwards() {
        let (registry, stream) =
            registry_with(StreamConfig { ttl: Some(Duration::from_millis(1)), ..Default::default() });
        let hold = stream.hold();
        std::thread::sleep(Duration::from_millis(5));
        assert!(registry.expire(SystemTime::now()).is_empty());
        let before = SystemTime::now();
        drop(hold);
        assert!(stream.expires().unwrap() >= before);
        assert_eq!(registry.expire(before + TTL), ["s"]);
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
        assert_eq!(stream.expires(), Some(deadline));
        assert!(registry.expire(deadline - TTL / 2).is_empty());
        assert_eq!(registry.expire(deadline), ["s"]);
    }
}
