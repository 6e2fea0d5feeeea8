//! Flags by which two sides that share memory tell each other that they are about to sleep, checked
//! with loom.
//!
//! The sleeper raises its flag, issues a full fence and looks once more for what it waits for; the
//! other side publishes its news, issues a full fence and looks at the flag. Whichever of the two
//! fences comes first, one side sees the other.

use crate::sync::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// Asks to be notified, for a reason that is not 0. What one waits for must be looked at once more
/// afterwards.
pub(crate) fn raise(flag: &AtomicU64, reason: u64) {
    flag.store(reason, Relaxed);
    fence(SeqCst);
}

/// Whether the other side is to be notified now, for a reason that is one; once. To be asked after
/// the news is published.
pub(crate) fn take(flag: &AtomicU64, is_reason: impl FnOnce(u64) -> bool) -> bool {
    fence(SeqCst);
    take_fenced(flag, is_reason)
}

/// As [`take`] for two flags, with one fence.
pub(crate) fn take_both(
    one: &AtomicU64,
    other: &AtomicU64,
    is_reason: impl Fn(u64) -> bool,
) -> (bool, bool) {
    fence(SeqCst);
    (take_fenced(one, &is_reason), take_fenced(other, &is_reason))
}

#[inline(always)]
fn take_fenced(flag: &AtomicU64, is_reason: impl FnOnce(u64) -> bool) -> bool {
    let reason = flag.load(Relaxed);
    // Nearly always 0, and then taking costs no more than the fence.
    reason != 0 && is_reason(reason) && flag.swap(0, Relaxed) != 0
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::{
        Arc,
        Ordering::{Acquire, Release},
    };
    use loom::{model::Builder, sync::Notify, thread};

    #[derive(Default)]
    struct Words {
        produced: AtomicU64,
        consumed: AtomicU64,
        consumer_sleeps: AtomicU64,
        producer_sleeps: AtomicU64,
    }

    /// Sleeps until `there` holds; loom finds it if nobody rings.
    fn wait(flag: &AtomicU64, reason: u64, notifier: &Notify, there: impl Fn() -> bool) {
        while !there() {
            raise(flag, reason);
            if !there() {
                notifier.wait();
            }
        }
    }

    #[test]
    fn neither_side_sleeps_when_the_other_has_done_what_it_waits_for() {
        let mut builder = Builder::new();
        // Without a bound there are too many ways for it to end in a sensible time.
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let area = Arc::new(Words::default());
            let notifiers = Arc::new((Notify::new(), Notify::new()));
            let (theirs, their_notifiers) = (Arc::clone(&area), Arc::clone(&notifiers));
            let consumer = thread::spawn(move || {
                let (area, (ours, producer)) = (theirs, &*their_notifiers);
                for consumed in 1..=2 {
                    wait(&area.consumer_sleeps, 1, ours, || {
                        area.produced.load(Acquire) >= consumed
                    });
                    area.consumed.store(consumed, Release);
                    if take(&area.producer_sleeps, |wanted| consumed >= wanted) {
                        producer.notify();
                    }
                }
            });
            let (consumer_notifier, ours) = &*notifiers;
            for produced in 1..=2 {
                area.produced.store(produced, Release);
                if take(&area.consumer_sleeps, |_| true) {
                    consumer_notifier.notify();
                }
            }
            // Rung only when all of it is consumed.
            wait(&area.producer_sleeps, 2, ours, || area.consumed.load(Acquire) == 2);
            consumer.join().unwrap();
        });
    }
}
