//! Notify word of a ring, on which readers of other processes sleep: a counter that, on Linux, is
//! also a futex.
//!
//! A reader takes the count, finds nothing to read, and sleeps while the count stays the same. A
//! notifying thread publishes its news first, and then increments the count. So a reader that takes
//! a count which includes the news also sees the news.

#[cfg(not(loom))]
use std::time::Duration;

#[cfg(not(loom))]
use rustix::thread::futex::{self, Flags, Timespec};

use super::{Ring, layout};
use crate::sync::Ordering::{Acquire, Release};

#[cfg(not(loom))]
type Word = std::sync::atomic::AtomicU32;
#[cfg(not(loom))]
type Count = u32;

#[cfg(loom)]
type Word = crate::sync::AtomicU64;
#[cfg(loom)]
type Count = u64;

impl Ring {
    #[cfg(not(loom))]
    fn notify_word(&self) -> &Word {
        self.memory.futex(layout::NOTIFY)
    }

    #[cfg(loom)]
    fn notify_word(&self) -> &Word {
        self.word(layout::NOTIFY)
    }

    pub(crate) fn notify_count(&self) -> Count {
        self.notify_word().load(Acquire)
    }

    /// Notifies all sleepers: a reader that took the count before this call wakes, or does not fall
    /// asleep. Call this after the news is published.
    pub(crate) fn notify(&self) {
        self.notify_word().fetch_add(1, Release);
        #[cfg(not(loom))]
        self.wake_sleepers();
    }
}

#[cfg(not(loom))]
impl Ring {
    pub(crate) fn wake_sleepers(&self) {
        // Fails only for an address that is not mapped, and this one is.
        let _ = futex::wake(self.notify_word(), Flags::empty(), i32::MAX as u32);
    }

    pub(crate) fn sleep(&self, count: Count, most: Option<Duration>) {
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // Whatever ends the sleep, a signal included, the caller looks again.
        let _ = futex::wait(self.notify_word(), Flags::empty(), count, most.as_ref());
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::{model, thread};
    use pfs_proto::ReadOptions;

    use crate::{Stream, StreamConfig, sync::lock};

    /// The system wakes a sleeper whose count is outdated, and lets no reader fall asleep with an
    /// outdated count. So this test only has to show that no reader takes the last count without
    /// the news that the count stands for.
    #[test]
    fn a_reader_that_falls_asleep_on_a_ring_is_woken_when_the_stream_leaves_it() {
        model(|| {
            let stream = Stream::new("s", StreamConfig::default().buffer_size(16)).unwrap();
            let ring = lock(&stream.shared.append).ring.ring().clone();
            let mut writer = stream.writer().unwrap();
            writer.try_append(&[1; 5]).unwrap();
            let mut reader = stream.reader(ReadOptions::default()).unwrap();
            reader.try_read(&mut Vec::new(), 16).unwrap();
            let moving = thread::spawn(move || {
                writer.try_append(&[2; 6]).unwrap();
                writer
            });
            let count = ring.notify_count();
            let falls_asleep = !ring.status().moved();
            drop(moving.join().unwrap());
            assert!(ring.status().moved());
            assert!(
                !falls_asleep || ring.notify_count() != count,
                "the sleeper missed the notification"
            );
        });
    }
}
