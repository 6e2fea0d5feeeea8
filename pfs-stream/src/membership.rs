//! Reader membership: registers a reader, of this process or another, with its stream.

use pfs_proto::StreamEvent;

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use crate::{read::Position, reader_stats::ReaderStats};
use crate::{
    state::{Progress, ReaderState, Shared},
    sync::{Arc, Ordering, lock},
};

fn count(readers: usize) -> u32 {
    u32::try_from(readers).unwrap_or(u32::MAX)
}

/// Keeps a reader attached until dropped: counted, listed by `stat`, and waited for if its policy
/// is `block`.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<ReaderState>,
}

impl Membership {
    /// Attaches a reader. Call under the append lock, so that no writer overtakes a `block` reader
    /// that the writer cannot see.
    pub(crate) fn join(shared: &Arc<Shared>, state: Arc<ReaderState>) -> Self {
        let mut attached = lock(&shared.readers);
        attached.push(Arc::clone(&state));
        let readers = count(attached.len());
        let ReaderState { number: reader, peer, .. } = *state;
        shared.watchers.tell(StreamEvent::Subscribed { reader, peer, readers });
        if readers == 1 {
            shared.watchers.tell(StreamEvent::FirstReader);
        }
        drop(attached);
        shared.reader_count.fetch_add(1, Ordering::SeqCst);
        Self { shared: Arc::clone(shared), state }
    }

    /// Tells watchers that this reader was told of a gap.
    pub(crate) fn tell_gap(&self, from: u64, to: u64, chunks: u64) {
        let reader = self.state.number;
        self.shared.watchers.tell(StreamEvent::Gap { reader, from, to, chunks });
        self.shared.watchers.wake();
    }

    /// Moves the reader's stats to `stats`. Losses counted before stay counted.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn set_stats(&mut self, stats: ReaderStats, at: Position) {
        let head = self.shared.look().ring.head();
        let Progress { gaps, lost_bytes, lost_chunks, .. } = self.state.progress(head);
        stats.set_lost(lost_bytes, lost_chunks, gaps);
        stats.set_position(at);
        // Replace the entry in one step under the lock: at no moment does a writer see the reader
        // missing or twice.
        let mut readers = lock(&self.shared.readers);
        let state = Arc::new(self.state.with_stats(stats));
        for reader in readers.iter_mut() {
            if Arc::ptr_eq(reader, &self.state) {
                *reader = Arc::clone(&state);
            }
        }
        drop(readers);
        self.state = state;
        // The old stats page held a writer's request for notification. The writer asks again, with
        // the reader's new stats.
        self.shared.room.wake_all();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let append = self.shared.look();
        let progress = self.state.progress(append.ring.head());
        drop(append);
        let Progress { lost_bytes, lost_chunks, .. } = progress;
        self.state.stats.release();
        let mut attached = lock(&self.shared.readers);
        // Move the loss into the sum and remove the reader in one step under the lock, so that
        // observers count the loss exactly once.
        self.shared.lost_before.fetch_add(lost_bytes, Ordering::Relaxed);
        attached.retain(|reader| !Arc::ptr_eq(reader, &self.state));
        let readers = count(attached.len());
        let ReaderState { number: reader, peer, .. } = *self.state;
        let gone = StreamEvent::Unsubscribed { reader, peer, readers, lost_bytes, lost_chunks };
        self.shared.watchers.tell(gone);
        if readers == 0 {
            self.shared.watchers.tell(StreamEvent::NoReaders);
        }
        drop(attached);
        if self.shared.is_replica {
            self.shared.forget_skipped();
        }
        self.shared.gone.add_reader(self.state.counted(progress));
        self.shared.lifetime.leave();
        self.shared.reader_count.fetch_sub(1, Ordering::SeqCst);
        self.shared.tell_readers();
        self.shared.room.wake_all();
        self.shared.watchers.wake();
    }
}
