//! What the lock of a stream protects: a writer finds room under it, and appends.

use std::task::Waker;

use bytes::Bytes;
use pfs_proto::{MAX_DESCRIPTORS, SlowPolicy};

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use super::ReaderState;
use super::{Growth, Lease, Shared, WriterState};
use crate::{
    error::WriteError,
    extent::Extent,
    ring::{Given, RingWriter, Source, Status, Tail},
    sync::{Arc, MutexGuard, lock},
};

/// What only one writer at a time may touch.
#[derive(Debug)]
pub(crate) struct Appending {
    pub(crate) ring: RingWriter,
    pub(crate) growth: Growth,
    /// The lease of a writer that appends by itself.
    pub(crate) lease: Option<Lease>,
    /// Who waits for the end of a lease that has ended.
    pub(crate) lease_waiter: Option<Waker>,
    /// Whether nothing may be appended to the ring any more, because the holder of a lease that
    /// ended may still write there.
    pub(crate) is_sealed: bool,
    pub(crate) status: Status,
    /// Deaths before the first of the writers attached now (or last) joined.
    pub(crate) deaths_before: u64,
    pub(crate) finished: u64,
    /// Time of the newest chunk, or when the stream was made; times never go back, whatever the
    /// clock does.
    pub(crate) newest: u64,
    /// No `block` reader was at a chunk before this one when last looked; they only move on.
    pub(crate) block_floor: u64,
    pub(crate) writers: Vec<Arc<WriterState>>,
    /// Writers that wait for room now.
    pub(crate) waiting: usize,
    /// Whether those who wait are to be woken when the lock is given back: writers that wait for
    /// room, because the stream moved to a ring that may have it, or whoever waits for the end
    /// of a lease.
    pub(crate) has_to_wake: bool,
    /// The chunk that `block` readers must reach before the last append that found no room can go
    /// on.
    pub(crate) refused: u64,
}

/// Why a stream takes no more appends, if that is so.
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

/// Gives the lock back, and only then drops what the stream let go of, and wakes those who are to
/// be woken. Returns where head is.
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

/// Gives the lock back after an append that failed. It may have ended a lease all the same.
#[cold]
pub(crate) fn refuse(
    append: MutexGuard<'_, Appending>,
    error: WriteError,
    shared: &Shared,
) -> WriteError {
    release(append, &mut Vec::new(), shared);
    error
}

/// Gives the lock back, and wakes writers that wait for room and whoever waits for the end of a
/// lease. Readers too: the holder may have been stopped before it woke them.
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
    /// When the newest chunk was appended, if any was.
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

    /// Appends a chunk; false if a `block` reader needs the room. An error if there is no memory
    /// for it.
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

    /// Sees to it that the ring has room for so much, and that nothing goes which the stream has
    /// room for. False if a `block` reader needs the room.
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

    /// Appends a chunk that the ring may hold.
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

    /// Whether an append may overwrite everything before chunk `tail`. If not, that chunk is noted.
    #[inline]
    pub(crate) fn has_room_up_to(&mut self, tail: u64, shared: &Shared) -> bool {
        let has_room = self.may_overwrite(tail, shared);
        if !has_room {
            self.refused = tail;
        }
        has_room
    }

    /// Whether everything before chunk `tail` may go, as far as `block` readers are concerned. If
    /// not, and if a writer waits for that, the slowest of them is to say when it has come
    /// there: it alone, because the others are further.
    #[inline]
    pub(crate) fn may_overwrite(&mut self, tail: u64, shared: &Shared) -> bool {
        tail <= self.block_floor || self.is_past_blocking(tail, shared)
    }

    /// The chunk that the slowest `block` reader has come to; beyond every chunk if there is none.
    pub(crate) fn slowest_block_reader(&mut self, shared: &Shared) -> u64 {
        let readers = lock(&shared.readers);
        let blocking = readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block);
        self.block_floor = blocking.map(|reader| reader.stats.seq()).min().unwrap_or(u64::MAX);
        self.block_floor
    }

    /// The `block` readers whose [pages](crate::reader_stats::ReaderStats::file) the holder of a
    /// lease can be given; none if that is not so of all of them.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn blocking_elsewhere(&self, shared: &Shared) -> Vec<Arc<ReaderState>> {
        let readers = lock(&shared.readers);
        let blocking: Vec<_> =
            readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block).cloned().collect();
        let can_all = blocking.len() <= MAX_DESCRIPTORS
            && blocking.iter().all(|it| it.stats.file().is_some());
        if can_all { blocking } else { Vec::new() }
    }

    /// Whether all `block` readers have come to chunk `tail`, now that they are looked at.
    fn is_past_blocking(&mut self, tail: u64, shared: &Shared) -> bool {
        // Seldom: only when the ring has gone round up to where the slowest one was last seen.
        let readers = lock(&shared.readers);
        // Each time round, one of them has come further; unless it lies, and then writers wait
        // until it goes.
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
