//! Wake-up flags: two sides that share memory tell each other that they are about to sleep. Checked
//! with loom.
//!
//! The sleeper raises its flag, issues a full fence, and checks its condition once more. The other
//! side publishes its news, issues a full fence, and checks the flag. Whichever fence comes first,
//! at least one side sees what the other side did.

use crate::sync::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// Asks to be notified, for a `reason` other than 0. Check the condition once more after this call,
/// before sleeping.
pub(crate) fn raise(flag: &AtomicU64, reason: u64) {
    flag.store(reason, Relaxed);
    fence(SeqCst);
}

/// Returns true once if the peer is about to sleep and `is_reason` accepts its reason: the caller
/// must then notify the peer. Call this after the news is published.
pub(crate) fn take(flag: &AtomicU64, is_reason: impl FnOnce(u64) -> bool) -> bool {
    fence(SeqCst);
    take_fenced(flag, is_reason)
}

/// Takes two flags with one fence, like [`take`].
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
    // The flag is nearly always 0, and then taking costs no more than the fence.
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

    /// Sleeps until `there` holds. Loom detects a missing notification as a deadlock.
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
        // Without a bound there are too many interleavings to explore in a sensible time.
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
            // Notified only when everything is consumed.
            wait(&area.producer_sleeps, 2, ours, || area.consumed.load(Acquire) == 2);
            consumer.join().unwrap();
        });
    }
}
