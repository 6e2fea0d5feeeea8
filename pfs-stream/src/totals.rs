//! What all streams of a registry did together, for those who watch a daemon.
//!
//! Readers and writers count for themselves, and what they counted is added to a sum when they go:
//! while they work, counting costs nothing that others share.

// Not loom's, because nothing is decided by what it holds: nobody touches anything of loom's while
// it is locked.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pfs_proto::Peer;

use crate::clock;

/// What the streams of a registry did since it was made, and who is attached to them now. Sizes in
/// bytes. What was counted never goes back, but what those counted who are attached to a removed
/// stream is told when they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams that take appends.
    pub open: u64,
    /// Streams that are closed, as failed or not.
    pub closed: u64,
    /// Writers attached.
    pub writers: u64,
    /// Writers that wait for a `block` reader.
    pub writers_waiting: u64,
    /// Readers attached with the policy `drop`.
    pub readers_drop: u64,
    /// Readers attached with the policy `block`.
    pub readers_block: u64,
    /// Readers attached with the policy `disconnect`.
    pub readers_disconnect: u64,
    /// Writers that have finished properly.
    pub finished: u64,
    /// Writers that went away without finishing, or finished as failed.
    pub died: u64,
    /// Readers that were `block` readers until they kept a writer waiting for too long.
    pub given_up: u64,
    /// For how long writers have waited for `block` readers.
    pub waited: Duration,
    /// What writers appended.
    pub written: ByTransport,
    /// What readers took.
    pub read: ByTransport,
    /// Gaps that readers were told of.
    pub gaps: u64,
    /// Bytes in those gaps.
    pub lost_bytes: u64,
    /// Chunks in those gaps, where it is known how many.
    pub lost_chunks: u64,
}

/// Bytes by transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTransport {
    /// Through shared memory.
    pub shm: u64,
    /// Over a Unix socket: the kernel names the process at its other end.
    pub unix: u64,
    /// Over HTTP, and of clients that no kernel names.
    pub http: u64,
}

impl ByTransport {
    fn add(&mut self, peer: Peer, bytes: u64) {
        let sum = if peer.uid.is_some() { &mut self.unix } else { &mut self.http };
        *sum = sum.saturating_add(bytes);
    }
}

/// What a reader or writer has counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    Writer { peer: Peer, bytes: u64, leased: u64 },
    Reader { peer: Peer, shm: bool, bytes: u64, gaps: u64, lost_bytes: u64, lost_chunks: u64 },
}

impl Totals {
    pub(crate) fn add(&mut self, counted: Counted) {
        match counted {
            Counted::Writer { peer, bytes, leased } => {
                self.written.shm = self.written.shm.saturating_add(leased);
                self.written.add(peer, bytes.saturating_sub(leased));
            }
            Counted::Reader { peer, shm, bytes, gaps, lost_bytes, lost_chunks } => {
                if shm {
                    self.read.shm = self.read.shm.saturating_add(bytes);
                } else {
                    self.read.add(peer, bytes);
                }
                self.gaps = self.gaps.saturating_add(gaps);
                self.lost_bytes = self.lost_bytes.saturating_add(lost_bytes);
                self.lost_chunks = self.lost_chunks.saturating_add(lost_chunks);
            }
        }
    }

    /// Nothing that was counted is less than it was.
    fn not_less_than(&mut self, before: &Self) {
        self.finished = self.finished.max(before.finished);
        self.died = self.died.max(before.died);
        self.waited = self.waited.max(before.waited);
        self.gaps = self.gaps.max(before.gaps);
        self.lost_bytes = self.lost_bytes.max(before.lost_bytes);
        self.lost_chunks = self.lost_chunks.max(before.lost_chunks);
        for (sum, before) in [(&mut self.written, before.written), (&mut self.read, before.read)] {
            sum.shm = sum.shm.max(before.shm);
            sum.unix = sum.unix.max(before.unix);
            sum.http = sum.http.max(before.http);
        }
    }
}

/// The sum of those who have gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    sum: Mutex<Totals>,
    /// What was last told of everybody.
    told: Mutex<Totals>,
}

impl Gone {
    fn sum(&self) -> MutexGuard<'_, Totals> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who have gone, and what `add` adds to them. One who goes meanwhile may be missing, and
    /// is not there twice.
    pub(crate) fn with(&self, add: impl FnOnce(&mut Totals)) -> Totals {
        let mut totals = *self.sum();
        add(&mut totals);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        totals.not_less_than(&told);
        *told = totals;
        totals
    }

    /// To be called when it is no longer among its stream's writers: better missing for a moment
    /// than there twice.
    pub(crate) fn add_writer(&self, counted: Counted, finished: Option<bool>) {
        let mut totals = self.sum();
        totals.add(counted);
        totals.finished += u64::from(finished == Some(true));
        totals.died += u64::from(finished == Some(false));
    }

    /// To be called when it is no longer among its stream's readers.
    pub(crate) fn add_reader(&self, counted: Counted) {
        self.sum().add(counted);
    }

    /// Counts a `block` reader for which writers no longer wait.
    pub(crate) fn add_given_up(&self) {
        self.sum().given_up += 1;
    }

    /// A writer has waited for room since then.
    pub(crate) fn add_wait(&self, since: u64) {
        let waited = Duration::from_micros(clock::elapsed().saturating_sub(since));
        self.sum().waited += waited;
    }
}
