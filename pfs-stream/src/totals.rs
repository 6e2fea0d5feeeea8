//! Registry totals: counters over all streams, for monitoring a daemon.
//!
//! Readers and writers count for themselves, and their counts are added to a sum when they detach.
//! While they work, counting touches no data that other threads write.

// Standard mutexes instead of loom's: no decision depends on these sums, and no loom operation
// happens while they are locked.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pfs_proto::Peer;

use crate::clock;

/// Counters of a registry since it was created, and the readers and writers attached now. Sizes are
/// in bytes. Counters never decrease. The counts of readers and writers that are attached to a
/// removed stream are added when they detach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams that accept appends.
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
    /// Writers that finished.
    pub finished: u64,
    /// Writers that detached without finishing, or finished as failed.
    pub died: u64,
    /// Readers that were `block` readers until they kept a writer waiting for too long.
    pub given_up: u64,
    /// Total time that writers waited for `block` readers.
    pub waited: Duration,
    /// Bytes appended by writers.
    pub written: ByTransport,
    /// Bytes taken by readers.
    pub read: ByTransport,
    /// Gaps that readers were told of.
    pub gaps: u64,
    /// Bytes in those gaps.
    pub lost_bytes: u64,
    /// Chunks in those gaps; a gap whose chunk count is unknown adds nothing.
    pub lost_chunks: u64,
}

/// Bytes by transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTransport {
    /// Through shared memory.
    pub shm: u64,
    /// Over a Unix socket, where the kernel identifies the peer process.
    pub unix: u64,
    /// Over HTTP, and by all clients that the kernel does not identify.
    pub http: u64,
}

impl ByTransport {
    fn add(&mut self, peer: Peer, bytes: u64) {
        let sum = if peer.uid.is_some() { &mut self.unix } else { &mut self.http };
        *sum = sum.saturating_add(bytes);
    }
}

/// Counts of one reader or writer.
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

    /// Raises each counter to at least its value in `before`.
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

/// Sum over all readers and writers that have detached.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    sum: Mutex<Totals>,
    /// The totals that were last reported.
    told: Mutex<Totals>,
}

impl Gone {
    fn sum(&self) -> MutexGuard<'_, Totals> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the sum of detached readers and writers plus what `add` adds for the attached ones.
    /// A reader or writer that detaches meanwhile may be missing, but is never counted twice.
    pub(crate) fn with(&self, add: impl FnOnce(&mut Totals)) -> Totals {
        let mut totals = *self.sum();
        add(&mut totals);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        totals.not_less_than(&told);
        *told = totals;
        totals
    }

    /// Adds a writer that detached. Call after the writer was removed from its stream: missing for
    /// a moment is better than counted twice.
    pub(crate) fn add_writer(&self, counted: Counted, finished: Option<bool>) {
        let mut totals = self.sum();
        totals.add(counted);
        totals.finished += u64::from(finished == Some(true));
        totals.died += u64::from(finished == Some(false));
    }

    /// Adds a reader that detached. Call after the reader was removed from its stream.
    pub(crate) fn add_reader(&self, counted: Counted) {
        self.sum().add(counted);
    }

    /// Counts a `block` reader that writers no longer wait for.
    pub(crate) fn add_given_up(&self) {
        self.sum().given_up += 1;
    }

    /// Adds the time that a writer waited for room since `since`.
    pub(crate) fn add_wait(&self, since: u64) {
        let waited = Duration::from_micros(clock::elapsed().saturating_sub(since));
        self.sum().waited += waited;
    }
}
