//! Stream expiry: queues of due times, so that no pass walks over all streams. An append does not
//! touch the queues. A stream that comes due but was used meanwhile is queued again, with a due
//! time computed from its last use. A stream that never expires is in no queue, and a removed
//! stream leaves the queues at once.

use std::{
    collections::BTreeMap,
    mem,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use super::Names;
use crate::{Stream, clock};

/// The most streams that are checked before others may take the lock of the registry.
const STREAMS_PER_LOCK: usize = 1024;

/// A due time, and the number of the stream, which distinguishes streams with the same due time.
type Place<T> = (T, u64);

/// The point in time up to which streams expire now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    within: Duration,
    /// On the clock of [`clock::elapsed`].
    elapsed: u64,
    /// On the system's clock; `None` is never.
    time: Option<SystemTime>,
}

impl Until {
    pub(super) fn from_now(within: Duration) -> Self {
        // A stream that is queued again gets a later due time than this, so that one pass ends.
        let elapsed =
            clock::elapsed().saturating_add(clock::duration_micros(within)).min(u64::MAX - 1);
        Self { within, elapsed, time: SystemTime::now().checked_add(within) }
    }
}

/// The queues, with the names of the streams.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// How long a stream without a lifetime of its own may be idle.
    idle_ttl: Option<Duration>,
    /// Streams that expire after they were not used for some time. Due times are on the clock of
    /// [`clock::elapsed`], and never later than the stream can expire.
    unused: BTreeMap<Place<u64>, String>,
    deadlines: BTreeMap<Place<SystemTime>, String>,
    /// The first due time that the sleeper was told, on the clock of [`clock::elapsed`].
    told: u64,
    /// Whether an earlier due time than that was queued.
    is_sooner: bool,
    sleeper: Option<Waker>,
}

impl Default for Expiry {
    fn default() -> Self {
        let (unused, deadlines) = (BTreeMap::new(), BTreeMap::new());
        Self { idle_ttl: None, unused, deadlines, told: u64::MAX, is_sooner: false, sleeper: None }
    }
}

impl Expiry {
    /// Queues a stream if it can expire.
    pub(super) fn put(&mut self, stream: &Stream) {
        if let Some(left) = stream.unused_left(self.idle_ttl) {
            self.put_unused(stream, left, 0);
        }
        if let Some(deadline) = stream.config().deadline {
            self.deadlines.insert((deadline, number(stream)), stream.name().to_owned());
            let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
            self.announce(clock::elapsed().saturating_add(clock::duration_micros(left)));
        }
    }

    /// Queues a stream that is not in the queue, and that expires after `left` unless it is used.
    /// Its due time is later than `after`.
    fn put_unused(&mut self, stream: &Stream, left: Duration, after: u64) {
        let due = clock::elapsed()
            .saturating_add(clock::duration_micros(left))
            .max(after.saturating_add(1));
        stream.shared.lifetime.set_due(due);
        self.unused.insert((due, number(stream)), stream.name().to_owned());
        self.announce(due);
    }

    /// Takes a stream out of the queues.
    pub(super) fn remove(&mut self, stream: &Stream) {
        self.unused.remove(&(stream.shared.lifetime.due(), number(stream)));
        if let Some(deadline) = stream.config().deadline {
            self.deadlines.remove(&(deadline, number(stream)));
        }
    }

    fn announce(&mut self, due: u64) {
        if due < self.told {
            (self.told, self.is_sooner) = (due, true);
            if let Some(sleeper) = self.sleeper.take() {
                sleeper.wake();
            }
        }
    }

    /// The time until a stream is due.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let now = clock::elapsed();
        let unused = self.unused.first_key_value().map(|((due, _), _)| due.saturating_sub(now));
        let deadline = self.deadlines.first_key_value().map(|((deadline, _), _)| {
            clock::duration_micros(deadline.duration_since(SystemTime::now()).unwrap_or_default())
        });
        let left = unused.into_iter().chain(deadline).min();
        (self.told, self.is_sooner) =
            (left.map_or(u64::MAX, |left| now.saturating_add(left)), false);
        left.map(Duration::from_micros)
    }

    /// Ready when a stream is due earlier than [`next`](Self::next) said.
    pub(super) fn poll_sooner(&mut self, cx: &Context<'_>) -> Poll<()> {
        if mem::take(&mut self.is_sooner) {
            return Poll::Ready(());
        }
        self.sleeper = Some(cx.waker().clone());
        Poll::Pending
    }

    fn pop_deadline(&mut self, until: Until) -> Option<String> {
        let first = self.deadlines.first_entry()?;
        let has_come = until.time.is_none_or(|time| first.key().0 <= time);
        has_come.then(|| first.remove())
    }

    fn pop_unused(&mut self, until: Until) -> Option<String> {
        let first = self.unused.first_entry()?;
        (first.key().0 <= until.elapsed).then(|| first.remove())
    }

    /// The number of queued streams.
    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.unused.len() + self.deadlines.len()
    }
}

fn number(stream: &Stream) -> u64 {
    stream.identity().stream()
}

impl Names {
    /// Takes out streams that expire by `until`. Returns whether there may be more, because one
    /// call checks only a limited number.
    pub(super) fn take_expired(&mut self, until: Until, expired: &mut Vec<Stream>) -> bool {
        for _ in 0..STREAMS_PER_LOCK {
            if let Some(name) = self.expiry.pop_deadline(until) {
                expired.extend(self.take(&name));
                continue;
            }
            let Some(name) = self.expiry.pop_unused(until) else { return false };
            let Some(stream) = self.streams.get(&name) else { continue };
            match stream.unused_left(self.expiry.idle_ttl) {
                Some(left) if left > until.within => {
                    self.expiry.put_unused(stream, left, until.elapsed)
                }
                Some(_) => expired.extend(self.take(&name)),
                // The stream was closed.
                None => {}
            }
        }
        true
    }

    /// Changes the time after which streams without a lifetime of their own expire, for existing
    /// streams too.
    pub(super) fn set_idle_ttl(&mut self, idle_ttl: Option<Duration>) {
        if mem::replace(&mut self.expiry.idle_ttl, idle_ttl) == idle_ttl {
            return;
        }
        for stream in self.streams.values().filter(|stream| !stream.has_lifetime()) {
            self.expiry.remove(stream);
            self.expiry.put(stream);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use pfs_proto::ReadOptions;
    use proptest::prelude::*;

    use super::*;
    use crate::{CreateError, Limits, Registry, StreamConfig, clock::stopped::advance};

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(10);

    /// An empty registry, on a clock that only `advance` moves.
    fn registry(idle_ttl: Option<Duration>) -> Registry {
        advance(Duration::ZERO);
        let registry = Registry::with_descriptors(Limits::UNLIMITED, 0);
        registry.set_idle_ttl(idle_ttl);
        registry
    }

    fn small() -> StreamConfig {
        StreamConfig::default().buffer_size(1)
    }

    fn create(registry: &Registry, name: &str, config: StreamConfig) -> Stream {
        registry.create(name, config).unwrap()
    }

    fn append(stream: &Stream) {
        stream.writer().unwrap().try_append(b"x").unwrap();
    }

    fn expired(registry: &Registry) -> Vec<String> {
        registry.expire(Duration::ZERO)
    }

    fn queued(registry: &Registry) -> usize {
        registry.inner.names().expiry.len()
    }

    #[test]
    fn a_stream_expires_once_its_time_to_live_has_passed_since_its_last_use_and_not_sooner() {
        let registry = registry(None);
        let used = create(&registry, "used", small().ttl(TTL));
        create(&registry, "unused", small().ttl(TTL));
        advance(TTL - SECOND);
        append(&used);
        assert_eq!((expired(&registry), registry.next_expiry()), (vec![], Some(SECOND)));
        advance(SECOND);
        assert_eq!(
            (expired(&registry), registry.next_expiry()),
            (vec!["unused".into()], Some(TTL - SECOND))
        );
        advance(TTL - SECOND - Duration::from_micros(1));
        assert_eq!((expired(&registry), registry.len()), (vec![], 1));
        advance(Duration::from_micros(1));
        assert_eq!((expired(&registry), registry.next_expiry()), (vec!["used".into()], None));
    }

    #[test]
    fn every_removal_of_a_stream_takes_it_out_of_the_queues() {
        let registry = registry(Some(TTL));
        let deadline = small().deadline(SystemTime::now() + TTL);
        for config in [small(), small().ttl(TTL), deadline.clone(), deadline.ttl(TTL)] {
            let places = 1 + usize::from(config.ttl.is_some() && config.deadline.is_some());
            let made = create(&registry, "s", config.clone());
            assert_eq!(queued(&registry), places);
            let other = registry.replace_with("s", small(), |_| ()).unwrap();
            assert_eq!((queued(&registry), registry.remove_stream(&made)), (1, false));
            assert_eq!((registry.remove_stream(&other), queued(&registry)), (true, 0));
            create(&registry, "s", config.clone());
            assert_eq!((registry.remove("s"), queued(&registry)), (true, 0));
            create(&registry, "s", config);
            assert_eq!((registry.expire(TTL), queued(&registry)), (vec!["s".into()], 0));
        }
    }

    #[test]
    fn a_refused_creation_and_a_stream_that_never_expires_queue_nothing() {
        let registry = registry(None);
        create(&registry, "s", small());
        assert_eq!((queued(&registry), registry.next_expiry()), (0, None));
        assert!(matches!(registry.create("s", small().ttl(TTL)), Err(CreateError::Exists)));
        assert_eq!(queued(&registry), 0);
    }

    #[test]
    fn an_idle_stream_expires_but_a_used_stream_only_after_the_idle_time_since_its_last_use() {
        let registry = registry(Some(TTL));
        create(&registry, "idle", small());
        let read = create(&registry, "read", small());
        let written = create(&registry, "written", small());
        let held = create(&registry, "held", small());
        let reader = read.reader(ReadOptions::default()).unwrap();
        let (writer, hold) = (written.writer().unwrap(), held.hold());
        advance(TTL);
        assert_eq!(expired(&registry), ["idle"]);
        advance(10 * TTL);
        assert_eq!((expired(&registry), registry.len()), (vec![], 3));
        drop((reader, hold, writer));
        advance(TTL - SECOND);
        assert_eq!((expired(&registry), registry.len()), (vec![], 3));
        // A short visit counts too.
        drop(read.reader(ReadOptions::default()).unwrap());
        append(&written);
        advance(SECOND);
        assert_eq!(expired(&registry), ["held"]);
        advance(TTL - SECOND);
        assert_eq!(expired(&registry).len(), 2);
    }

    #[test]
    fn a_closed_stream_is_never_idle_and_follows_its_own_time_to_live() {
        let registry = registry(Some(TTL));
        create(&registry, "stays", small()).close();
        create(&registry, "mortal", small().ttl(3 * TTL)).close();
        advance(2 * TTL);
        assert_eq!((expired(&registry), queued(&registry)), (vec![], 1));
        advance(TTL);
        assert_eq!((expired(&registry), registry.len()), (vec!["mortal".into()], 1));
    }

    #[test]
    fn the_lifetime_of_a_stream_takes_precedence_over_the_idle_time() {
        let registry = registry(Some(TTL));
        create(&registry, "short", small().ttl(SECOND));
        create(&registry, "long", small().ttl(2 * TTL));
        create(&registry, "deadline", small().deadline(SystemTime::now() + 1000 * TTL));
        advance(SECOND);
        assert_eq!(expired(&registry), ["short"]);
        advance(TTL);
        assert_eq!(expired(&registry).len(), 0);
        // The time to live also applies to a stream that is being read.
        let _reader = registry.get("long").unwrap().reader(ReadOptions::default()).unwrap();
        advance(TTL);
        assert_eq!((expired(&registry), registry.len()), (vec!["long".into()], 1));
    }

    #[test]
    fn a_new_idle_time_applies_to_existing_streams() {
        let registry = registry(None);
        create(&registry, "s", small());
        create(&registry, "mortal", small().ttl(1000 * TTL));
        advance(TTL);
        registry.set_idle_ttl(Some(3 * TTL));
        assert_eq!(registry.next_expiry(), Some(2 * TTL));
        registry.set_idle_ttl(None);
        assert_eq!((registry.next_expiry(), queued(&registry)), (Some(999 * TTL), 1));
        registry.set_idle_ttl(Some(2 * TTL));
        advance(TTL);
        assert_eq!((expired(&registry), registry.len()), (vec!["s".into()], 1));
    }

    #[test]
    fn the_sleeper_is_woken_only_for_an_earlier_due_time() {
        let registry = registry(None);
        let mut cx = Context::from_waker(Waker::noop());
        let mut is_sooner = || pin!(registry.expiry_is_sooner()).poll(&mut cx).is_ready();
        assert_eq!((registry.next_expiry(), is_sooner()), (None, false));
        create(&registry, "first", small().ttl(TTL));
        assert!(is_sooner() && !is_sooner(), "once");
        assert_eq!(registry.next_expiry(), Some(TTL));
        create(&registry, "later", small().ttl(TTL));
        create(&registry, "immortal", small());
        create(&registry, "deadline", small().deadline(SystemTime::now() + 2 * TTL));
        assert!(!is_sooner());
        // This applies whether or not the stream still exists.
        create(&registry, "sooner", small().ttl(SECOND));
        registry.remove("sooner");
        assert!(is_sooner());
        assert_eq!(registry.next_expiry(), Some(TTL));
        create(&registry, "comes", small().deadline(SystemTime::now() + SECOND));
        assert!(is_sooner());
        registry.next_expiry();
        registry.set_idle_ttl(Some(SECOND / 2));
        assert!(is_sooner());
    }

    #[test]
    fn one_call_expires_more_streams_than_are_checked_per_lock() {
        let registry = registry(None);
        for number in 0..2 * STREAMS_PER_LOCK + 1 {
            let stream = create(&registry, &number.to_string(), small().ttl(TTL));
            if number < STREAMS_PER_LOCK {
                advance(SECOND / 1000);
                append(&stream);
            }
        }
        assert_eq!((registry.expire(TTL).len(), registry.len()), (2 * STREAMS_PER_LOCK + 1, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create(u8, Option<u64>),
        Use(u8),
        Read(u8),
        Leave,
        Close(u8),
        Remove(u8),
        Idle(Option<u64>),
        Advance(u64),
        Expire(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let time = || prop::option::of(1..20_u64);
        prop_oneof![
            (0..8_u8, time()).prop_map(|(name, ttl)| Step::Create(name, ttl)),
            (0..8_u8).prop_map(Step::Use),
            (0..8_u8).prop_map(Step::Read),
            Just(Step::Leave),
            (0..8_u8).prop_map(Step::Close),
            (0..8_u8).prop_map(Step::Remove),
            time().prop_map(Step::Idle),
            (0..10_u64).prop_map(Step::Advance),
            (0..5_u64).prop_map(Step::Expire),
        ]
    }

    proptest! {
        #[test]
        fn what_expires_is_what_a_walk_over_all_streams_would_find(steps in prop::collection::vec(step(), 1..60)) {
            let registry = registry(None);
            let (mut idle_ttl, mut readers) = (None, Vec::new());
            for step in steps {
                match step {
                    Step::Create(name, ttl) => {
                        let config = StreamConfig { ttl: ttl.map(Duration::from_secs), ..small() };
                        registry.replace_with(&name.to_string(), config, |_| ()).unwrap();
                    }
                    Step::Use(name) => {
                        let stream = registry.get(&name.to_string());
                        if let Some(mut writer) = stream.and_then(|stream| stream.writer().ok()) {
                            writer.try_append(b"x").unwrap();
                        }
                    }
                    Step::Read(name) => readers.extend(
                        registry.get(&name.to_string()).map(|it| it.reader(ReadOptions::default()).unwrap()),
                    ),
                    Step::Leave => drop(readers.pop()),
                    Step::Close(name) => drop(registry.get(&name.to_string()).map(|stream| stream.close())),
                    Step::Remove(name) => drop(registry.remove(&name.to_string())),
                    Step::Idle(time) => {
                        idle_ttl = time.map(Duration::from_secs);
                        registry.set_idle_ttl(idle_ttl);
                    }
                    Step::Advance(time) => advance(Duration::from_secs(time)),
                    Step::Expire(within) => {
                        let within = Duration::from_secs(within);
                        let is_over = |stream: &Stream| stream.unused_left(idle_ttl).is_some_and(|left| left <= within);
                        let walked: Vec<String> =
                            registry.list().iter().filter(|it| is_over(it)).map(|it| it.name().to_owned()).collect();
                        let mut expired = registry.expire(within);
                        expired.sort();
                        prop_assert_eq!(expired, walked);
                    }
                }
                let first = registry.list().iter().filter_map(|stream| stream.unused_left(idle_ttl)).min();
                prop_assert!(first.is_none_or(|first| registry.next_expiry().is_some_and(|next| next <= first)));
                prop_assert!(queued(&registry) <= registry.len());
            }
        }
    }
}
