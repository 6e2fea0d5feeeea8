//! A reader's being attached, wherever it reads.

use std::time::SystemTime;

use pfs_proto::{Peer, SlowPolicy, StreamEvent};

use crate::{
    figures::Figures,
    ring::Position,
    stream::Shared,
    sync::{Arc, AtomicU64, Ordering, lock},
};

/// What a stream knows of a reader.
#[derive(Debug)]
pub(crate) struct ReaderState {
    /// Its number among all readers that the stream ever had, from 1 on.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// As the reader asked for it.
    asked: SlowPolicy,
    /// 1 once writers no longer wait for it, although it asked for that. Written under the lock of the stream's readers.
    given_up: AtomicU64,
    pub(crate) since: SystemTime,
    pub(crate) start: u64,
    pub(crate) figures: Figures,
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
    pub(crate) fn new(number: u64, peer: Peer, policy: SlowPolicy, start: u64, figures: Figures) -> Self {
        let (since, given_up) = (SystemTime::now(), AtomicU64::new(0));
        Self { number, peer, asked: policy, given_up, since, start, figures }
    }

    /// The slow policy that holds for it now.
    pub(crate) fn policy(&self) -> SlowPolicy {
        if self.is_given_up() { SlowPolicy::Drop } else { self.asked }
    }

    /// Whether it was a `block` reader that kept a writer waiting for too long.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) != 0
    }

    /// Gives the reader up: writers no longer wait for it.
    pub(crate) fn give_up(&self) {
        self.given_up.store(1, Ordering::Relaxed);
    }

    /// The progress in its figures, clamped to what is possible: another process can write anything into its page. The reader's
    /// own figures are exact only while `head` does not move.
    pub(crate) fn progress(&self, head: Position) -> Progress {
        let figures = &self.figures;
        let lost_bytes = figures.lost_bytes().min(head.offset.saturating_sub(self.start));
        Progress {
            position: figures.offset().min(head.offset).max(self.start),
            gaps: figures.gaps().min(lost_bytes),
            lost_bytes,
            // No chunk is empty.
            lost_chunks: figures.lost_chunks().min(lost_bytes).min(head.seq),
        }
    }
}

fn count(readers: usize) -> u32 {
    u32::try_from(readers).unwrap_or(u32::MAX)
}

/// Attached as long as it lives: counted, seen by `stat`, and waited for if that is its policy.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<ReaderState>,
}

impl Membership {
    /// Must be called under the append lock, so that no writer overtakes a `block` reader that it can't see.
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

    /// Tells those who watch that this reader was told of a gap.
    pub(crate) fn tell_gap(&self, from: u64, to: u64, chunks: u64) {
        let reader = self.state.number;
        self.shared.watchers.tell(StreamEvent::Gap { reader, from, to, chunks });
        self.shared.watchers.wake();
    }

    /// From now on its figures are these.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn set_figures(&mut self, figures: Figures, at: Position) {
        figures.set_position(at);
        // One step for whoever looks at the readers: there is no moment when a writer sees none, or two.
        let mut readers = lock(&self.shared.readers);
        let ReaderState { number, peer, asked, since, start, .. } = *self.state;
        let given_up = AtomicU64::new(self.state.given_up.load(Ordering::Relaxed));
        let state = Arc::new(ReaderState { number, peer, asked, given_up, since, start, figures });
        for reader in readers.iter_mut() {
            if Arc::ptr_eq(reader, &self.state) {
                *reader = Arc::clone(&state);
            }
        }
        drop(readers);
        self.state = state;
        // What was wanted of the reader is asked again, at its new place.
        self.shared.room.wake_all();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let append = lock(&self.shared.append);
        let progress = self.state.progress(append.ring.head());
        drop(append);
        let Progress { lost_bytes, lost_chunks, .. } = progress;
        let mut attached = lock(&self.shared.readers);
        // One step for whoever looks: what it lost is in the sum when it is no longer among the readers, and not before.
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
        self.shared.gone.add_reader(&self.state, progress);
        self.shared.reader_count.fetch_sub(1, Ordering::SeqCst);
        self.shared.room.wake_all();
        self.shared.watchers.wake();
    }
}
