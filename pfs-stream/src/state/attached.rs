//! Attached readers and writers, as their stream sees them.

use std::{task::Waker, time::SystemTime};

use pfs_proto::{Peer, SlowPolicy};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use super::RingElsewhere;
use super::{Appending, LeaseEnd, Shared, release};
use crate::{
    read::Position,
    reader_stats::ReaderStats,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
    totals::Counted,
};

/// The state of an attached reader.
#[derive(Debug)]
pub(crate) struct ReaderState {
    /// The reader's number among all readers that the stream ever had, from 1 on.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// The policy that the reader asked for.
    asked: SlowPolicy,
    /// 1 once writers no longer wait for the reader, although it asked for that. Written under the
    /// lock of the stream's readers.
    given_up: AtomicU64,
    pub(crate) since: SystemTime,
    pub(crate) start: u64,
    pub(crate) stats: ReaderStats,
    /// The ring that the reader reads in another process.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) elsewhere: Mutex<Option<RingElsewhere>>,
}

/// The position and the losses of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The offset that is read next.
    pub(crate) position: u64,
    pub(crate) gaps: u64,
    pub(crate) lost_bytes: u64,
    pub(crate) lost_chunks: u64,
}

impl ReaderState {
    pub(crate) fn new(
        number: u64,
        peer: Peer,
        policy: SlowPolicy,
        start: u64,
        stats: ReaderStats,
    ) -> Self {
        let (since, given_up) = (SystemTime::now(), AtomicU64::new(0));
        Self {
            number,
            peer,
            asked: policy,
            given_up,
            since,
            start,
            stats,
            #[cfg(all(target_os = "linux", not(any(miri, loom))))]
            elsewhere: Mutex::default(),
        }
    }

    /// The same reader with other stats, back in this process.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn with_stats(&self, stats: ReaderStats) -> Self {
        let Self { number, peer, asked, since, start, .. } = *self;
        let given_up = AtomicU64::new(self.given_up.load(Ordering::Relaxed));
        Self { number, peer, asked, given_up, since, start, stats, elsewhere: Mutex::default() }
    }

    /// The slow policy that applies to the reader now.
    pub(crate) fn policy(&self) -> SlowPolicy {
        if self.is_given_up() { SlowPolicy::Drop } else { self.asked }
    }

    /// Whether this was a `block` reader that kept a writer waiting for too long.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) != 0
    }

    /// Gives the reader up: writers no longer wait for it.
    pub(crate) fn give_up(&self) {
        self.given_up.store(1, Ordering::Relaxed);
        self.stats.release();
    }

    /// The progress in the reader's stats, clamped to what is possible, because another process can
    /// write anything into its page. The stats of a reader in this process are exact, but only
    /// while `head` does not move.
    pub(crate) fn progress(&self, head: Position) -> Progress {
        let stats = &self.stats;
        let lost_bytes = stats.lost_bytes().min(head.offset.saturating_sub(self.start));
        Progress {
            position: stats.offset().min(head.offset).max(self.start),
            gaps: stats.gaps().min(lost_bytes),
            lost_bytes,
            // No chunk is empty, so there are at least as many lost bytes as lost chunks.
            lost_chunks: stats.lost_chunks().min(lost_bytes).min(head.seq),
        }
    }

    /// What the reader has done so far.
    pub(crate) fn counted(&self, progress: Progress) -> Counted {
        let Progress { position, gaps, lost_bytes, lost_chunks } = progress;
        let passed = position.saturating_sub(self.start);
        Counted::Reader {
            peer: self.peer,
            shm: self.stats.are_shared(),
            bytes: passed.saturating_sub(lost_bytes),
            gaps,
            lost_bytes,
            lost_chunks,
        }
    }
}

/// The state of an attached writer.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) peer: Peer,
    pub(crate) since: SystemTime,
    pub(crate) bytes: AtomicU64,
    /// The bytes among those that the writer appended under a lease.
    pub(crate) leased: AtomicU64,
    /// Since when the writer waits for room, on the clock of [`clock::elapsed`]; 0 if not waiting.
    pub(crate) waiting: AtomicU64,
    /// The chunk that `block` readers must reach before the writer's last append that found no room
    /// can go on.
    pub(crate) needs: AtomicU64,
    /// How the writer's lease ended, until that is reported, and the task that waits for the end.
    pub(crate) lease_end: Mutex<(Option<LeaseEnd>, Option<Waker>)>,
}

impl WriterState {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            since: SystemTime::now(),
            bytes: AtomicU64::new(0),
            leased: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            needs: AtomicU64::new(0),
            lease_end: Mutex::default(),
        }
    }

    /// Records the room that the writer's append needs but has not found, and releases the lock.
    #[cold]
    pub(crate) fn needs_room(&self, append: MutexGuard<'_, Appending>, shared: &Shared) {
        self.needs.store(append.refused, Ordering::Relaxed);
        // The stream may still have moved to another ring, and other writers may need less room.
        release(append, &mut Vec::new(), shared);
    }

    /// Counts an append. Only the writer itself calls this.
    pub(crate) fn count(&self, bytes: u64) {
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(before.saturating_add(bytes), Ordering::Relaxed);
    }

    /// What the writer has done so far.
    pub(crate) fn counted(&self) -> Counted {
        Counted::Writer {
            peer: self.peer,
            bytes: self.bytes.load(Ordering::Relaxed),
            leased: self.leased.load(Ordering::Relaxed),
        }
    }
}
