//! Append state: everything that a stream's lock protects. A writer checks for room under this
//! lock, and appends.

use std::task::Waker;

use bytes::Bytes;
use pfs_proto::{MAX_DESCRIPTORS, SlowPolicy};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use super::ReaderState;
use super::{Growth, Lease, Shared, WriterState};
use crate::{
    error::WriteError,
    extent::Extent,
    ring::{Given, Ring, RingWriter, Source, Status, Tail},
    sync::{Arc, MutexGuard, lock},
};

/// The append state, which only one writer at a time may touch.
#[derive(Debug)]
pub(crate) struct Appending {
    pub(crate) ring: RingWriter,
    pub(crate) growth: Growth,
    /// The ring that the stream left when it last skipped, while readers may still need it.
    pub(crate) skipped: Option<Ring>,
    /// The lease of a writer that appends to the ring directly.
    pub(crate) lease: Option<Lease>,
    /// Wakes the task that waits for the end of a lease that has ended.
    pub(crate) lease_waiter: Option<Waker>,
    /// Whether nothing may be appended to the ring any more, because the former holder of a lease
    /// may still write there.
    pub(crate) is_sealed: bool,
    pub(crate) status: Status,
    /// The number of deaths before the first of the writers attached now (or last) joined.
    pub(crate) deaths_before: u64,
    pub(crate) finished: u64,
    /// Time of the newest chunk, or of the stream's creation. Times never go back, whatever the
    /// clock does.
    pub(crate) newest: u64,
    /// No `block` reader was before this chunk at the last check; readers only move forward.
    pub(crate) block_floor: u64,
    pub(crate) writers: Vec<Arc<WriterState>>,
    /// The number of writers that wait for room now.
    pub(crate) waiting: usize,
    /// Whether waiters must be woken when the lock is released: writers that wait for room, because
    /// the stream moved to a ring that may have room, or the task that waits for a lease to end.
    pub(crate) has_to_wake: bool,
    /// The chunk that `block` readers must reach so that the last append without room can go on.
    pub(crate) refused: u64,
}

/// Why a stream takes no more appends; `None` if it takes them.
#[inline]
pub(crate) fn refusal(status: Status) -> Option<WriteError> {
    if status.removed() {
        Some(WriteError::Removed)
    } else if status.closed() {
        Some(WriteError::Closed)
    } else {
        None
    }
}

/// Releases the lock, and only then drops the reclaimed chunks and wakes waiters. Returns the
/// offset of head.
#[inline(always)]
pub(crate) fn release(
    append: MutexGuard<'_, Appending>,
    gone: &mut Vec<Bytes>,
    shared: &Shared,
) -> u64 {
    let offset = append.ring.head().offset;
    if append.has_to_wake {
        wake_waiting(append, shared);
    } else {
        drop(append);
    }
    if !gone.is_empty() {
        gone.clear();
    }
    offset
}

/// Releases the lock after an append that failed. The append may still have ended a lease.
#[cold]
pub(crate) fn refuse(
    append: MutexGuard<'_, Appending>,
    error: WriteError,
    shared: &Shared,
) -> WriteError {
    release(append, &mut Vec::new(), shared);
    error
}

/// Releases the lock, and wakes writers that wait for room and the task that waits for the end of a
/// lease. Also wakes readers: the holder may have been stopped before it woke them.
#[cold]
fn wake_waiting(mut append: MutexGuard<'_, Appending>, shared: &Shared) {
    append.has_to_wake = false;
    let waiter = append.lease_waiter.take();
    drop(append);
    shared.room.wake_all();
    shared.ends.wake_all();
    shared.wake_readers();
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

impl Appending {
    /// When the newest chunk was appended, if there was any.
    pub(crate) fn last_append(&self) -> Option<u64> {
        (self.ring.head().seq > 0).then_some(self.newest)
    }

    /// What the stream holds.
    pub(crate) fn extent(&self) -> Extent {
        Extent {
            tail: self.ring.tail().offset,
            head: self.ring.head().offset,
            closed: self.status.closed(),
            failed: self.status.failed(),
            removed: self.status.removed(),
        }
    }

    /// The ring in which a reader continues with chunk `seq`.
    pub(crate) fn ring_with(&self, seq: u64) -> &Ring {
        self.skipped_with(seq).unwrap_or(self.ring.ring())
    }

    /// The ring that the stream left when it last skipped, if chunk `seq` or later ones are there.
    pub(crate) fn skipped_with(&self, seq: u64) -> Option<&Ring> {
        self.skipped.as_ref().filter(|left| seq < left.head_seq())
    }

    /// Takes out the ring that the stream left when it last skipped, if no reader needs it any
    /// more. Drop it after the lock is released.
    #[must_use]
    pub(crate) fn forget_skipped(&mut self, shared: &Shared) -> Option<Ring> {
        self.skipped.take_if(|left| {
            let head = left.head_seq();
            lock(&shared.readers).iter().all(|reader| reader.stats.seq() >= head)
        })
    }

    /// Appends a chunk. False if a `block` reader needs the room. An error if there is no memory
    /// for the chunk.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        chunk: &Given<'_>,
        now: u64,
        shared: &Shared,
        gone: &mut Vec<Bytes>,
    ) -> Result<bool, WriteError> {
        let size = chunk.size() as u64;
        if !self.grow_for(size, 1, shared)? {
            return Ok(false);
        }
        let Some((tail, time)) = self.room(size, now, shared) else { return Ok(false) };
        self.ring.append(chunk, tail, time, gone);
        Ok(true)
    }

    /// Ensures that the ring has room for `bytes` and `chunks`, without dropping history that the
    /// stream has room for. False if a `block` reader needs the room.
    #[inline(always)]
    pub(crate) fn grow_for(
        &mut self,
        bytes: u64,
        chunks: usize,
        shared: &Shared,
    ) -> Result<bool, WriteError> {
        if self.growth.is_due(self.ring.head(), bytes, chunks as u64) {
            return self.grow(bytes, chunks as u64, shared);
        }
        Ok(true)
    }

    /// Appends a chunk, by reference if the ring can hold it so. False if a `block` reader needs
    /// the room.
    #[inline(always)]
    pub(crate) fn put_held(
        &mut self,
        chunk: Bytes,
        now: u64,
        shared: &Shared,
        gone: &mut Vec<Bytes>,
    ) -> bool {
        let Some((tail, time)) = self.room(chunk.len() as u64, now, shared) else { return false };
        self.ring.append_held(chunk, tail, time, gone);
        true
    }

    /// The tail and the time of an append of one chunk, if there is room for it.
    #[inline]
    fn room(&mut self, bytes: u64, now: u64, shared: &Shared) -> Option<(Tail, u64)> {
        let tail = self.ring.tail_after(bytes, 1);
        if !self.has_room_up_to(tail.seq, shared) {
            return None;
        }
        let time = now.max(self.newest);
        self.newest = time;
        Some((tail, time))
    }

    /// Whether an append may overwrite all chunks before chunk `tail`. If not, records that chunk.
    #[inline]
    pub(crate) fn has_room_up_to(&mut self, tail: u64, shared: &Shared) -> bool {
        let has_room = self.may_overwrite(tail, shared);
        if !has_room {
            self.refused = tail;
        }
        has_room
    }

    /// Whether `block` readers allow all chunks before chunk `tail` to be overwritten. If not, and
    /// if a writer waits, asks only the slowest `block` reader to notify us when it reaches `tail`;
    /// the others are ahead of it.
    #[inline]
    pub(crate) fn may_overwrite(&mut self, tail: u64, shared: &Shared) -> bool {
        tail <= self.block_floor || self.is_past_blocking(tail, shared)
    }

    /// The chunk that the slowest `block` reader has reached; beyond every chunk if there is no
    /// such reader.
    pub(crate) fn slowest_block_reader(&mut self, shared: &Shared) -> u64 {
        let readers = lock(&shared.readers);
        let blocking = readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block);
        self.block_floor = blocking.map(|reader| reader.stats.seq()).min().unwrap_or(u64::MAX);
        self.block_floor
    }

    /// The `block` readers, for the holder of a lease that can be given all their [stats
    /// pages](crate::reader_stats::ReaderStats::file). Empty if any of them has no page that can be
    /// handed out.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn blocking_elsewhere(&self, shared: &Shared) -> Vec<Arc<ReaderState>> {
        let readers = lock(&shared.readers);
        let blocking: Vec<_> =
            readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block).cloned().collect();
        let can_all = blocking.len() <= MAX_DESCRIPTORS
            && blocking.iter().all(|it| it.stats.file().is_some());
        if can_all { blocking } else { Vec::new() }
    }

    /// Checks the positions of all `block` readers: whether all of them have reached chunk `tail`.
    fn is_past_blocking(&mut self, tail: u64, shared: &Shared) -> bool {
        // This is rare: only when the ring has wrapped around to where the slowest reader was at
        // the last check.
        let readers = lock(&shared.readers);
        // Each further iteration means that the slowest reader has just reached `tail`. If the loop
        // runs out, a reader lies about its position, and writers wait until that reader leaves.
        for _ in 0..=readers.len() {
            let blocking = readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block);
            let slowest =
                blocking.map(|reader| (reader.stats.seq(), reader)).min_by_key(|(seq, _)| *seq);
            self.block_floor = slowest.map_or(u64::MAX, |(seq, _)| seq);
            let Some((seq, slowest)) = slowest else { return true };
            if tail <= seq {
                return true;
            }
            if self.waiting == 0 {
                return false;
            }
            slowest.stats.want(tail);
            if slowest.stats.seq() < tail {
                return false;
            }
        }
        false
    }
}
