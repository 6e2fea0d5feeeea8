//! Futex sleep on a ring buffer's notifier, with a periodic check of the notifier.
//!
//! A wake-up can be stolen: a process that may only read a ring buffer can still move sleepers on
//! its futex to a futex of its own (`FUTEX_REQUEUE` needs no write access). A sleeper therefore
//! also wakes periodically, so that a stolen wake-up is a delay and never a hang.

use std::time::{Duration, Instant};

use pfs_stream::shm::Notifier;

/// The first sleep of a reader that has found nothing to read.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);

/// The longest sleep while the last news is younger than [`QUIET_TIME`].
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// The longest sleep after [`QUIET_TIME`] without news.
const MAX_QUIET_INTERVAL: Duration = Duration::from_secs(60);

/// Time without news after which a reader sleeps longer.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// The timer matters only if a wake-up is stolen. This crate's own tests run without the timer, so
/// that they detect a missing wake-up.
const HAS_TIMER: bool = !cfg!(test);

/// The sleeps of one reader.
#[derive(Debug)]
pub(crate) struct Sleep {
    notifier: Notifier,
    /// The notifier's count at the last sleep. A different count means news.
    count: Option<u32>,
    intervals: Intervals,
}

impl Sleep {
    pub(crate) fn new(notifier: Notifier) -> Self {
        Self { notifier, count: None, intervals: Intervals::default() }
    }

    /// Sleeps until the notifier was notified after `count`, or until the interval has passed. May
    /// wake spuriously.
    pub(crate) fn sleep(&mut self, count: u32) {
        if self.count != Some(count) {
            (self.count, self.intervals) = (Some(count), Intervals::default());
        }
        let begun = Instant::now();
        self.notifier.sleep(count, HAS_TIMER.then_some(self.intervals.next));
        self.intervals.slept(begun.elapsed());
    }
}

/// The lengths of sleeps without news: 50 ms, then doubling up to 1 s, and up to 60 s after a
/// minute without news.
#[derive(Clone, Copy, Debug)]
struct Intervals {
    next: Duration,
    quiet: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { next: FIRST_INTERVAL, quiet: Duration::ZERO }
    }
}

impl Intervals {
    /// Records a sleep. A sleep that ended early does not lengthen the next one, so spurious
    /// wake-ups do not slow a reader down.
    fn slept(&mut self, time: Duration) {
        self.quiet = self.quiet.saturating_add(time);
        if time >= self.next {
            let most = if self.quiet < QUIET_TIME { MAX_INTERVAL } else { MAX_QUIET_INTERVAL };
            self.next = self.next.saturating_mul(2).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of all sleeps that begin within `within`, if each sleep lasts to its end.
    fn sleeps(within: Duration) -> Vec<u128> {
        let (mut intervals, mut sleeps) = (Intervals::default(), Vec::new());
        while intervals.quiet < within {
            sleeps.push(intervals.next.as_millis());
            intervals.slept(intervals.next);
        }
        sleeps
    }

    #[test]
    fn sleeps_double_from_50_milliseconds_to_a_second() {
        assert_eq!(sleeps(Duration::from_secs(4)), [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn sleeps_double_to_a_minute_once_there_was_no_news_for_a_minute() {
        let all = sleeps(Duration::from_mins(6));
        let after: Vec<u128> = all.iter().copied().skip_while(|sleep| *sleep <= 1000).collect();
        assert_eq!(after, [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000]);
        let before: u128 = all.iter().filter(|sleep| **sleep <= 1000).sum();
        assert!((60_000..61_000).contains(&before), "{before} ms");
    }

    #[test]
    fn spurious_wake_ups_do_not_lengthen_sleeps() {
        let mut intervals = Intervals::default();
        for _ in 0..1000 {
            intervals.slept(Duration::from_millis(49));
        }
        assert_eq!(intervals.next, FIRST_INTERVAL);
    }
}
