//! Rings in memory that other processes are given, and how a stream moves to one of them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use pfs_proto::RingLayout;

use super::{Appending, MAX_ALLOCATED_BYTES, ReaderState, Shared, WakeFiles, release};
use crate::{
    ring::{Layout, Ring, RingWriter},
    sync::{Arc, Ordering, lock},
};

/// Bytes that are copied at a time at first, and at most: about a millisecond's work.
const FIRST_COPY_BYTES: u64 = 64 * 1024;
const MAX_COPY_BYTES: u64 = 4 * 1024 * 1024;

/// A ring for a reader of another process.
#[derive(Clone, Debug)]
pub struct NextRing {
    layout: RingLayout,
    file: Arc<OwnedFd>,
    wake_files: Option<Arc<WakeFiles>>,
    /// How often the stream had moved when this was its ring.
    moves: u64,
    /// Whether a writer of another process has, or had, a lease of it.
    was_leased: bool,
}

/// The ring that a reader of another process is on. It is counted as long as the stream keeps it
/// here.
#[derive(Debug)]
pub(crate) struct RingElsewhere {
    moves: u64,
    was_leased: bool,
    ring: Option<Ring>,
}

impl NextRing {
    /// The sizes of the ring.
    pub fn layout(&self) -> RingLayout {
        self.layout
    }

    /// The file of the ring, which another process can only read.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where the holder of a lease appends to the ring: the page in which a reader that is about to
    /// sleep says so, and the event counter by which it tells the holder that it has made room.
    pub fn wake_files(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.wake_files.as_ref().map(|it| it.files())
    }
}

impl RingElsewhere {
    pub(crate) fn new(ring: Ring, next: &NextRing) -> Self {
        Self { moves: next.moves, was_leased: next.was_leased, ring: Some(ring) }
    }

    /// Its number, if the stream has left it or has ended, and a former holder of a lease could
    /// hide that from the reader.
    pub(crate) fn is_over(&self, append: &Appending) -> Option<u64> {
        let has_ended = append.is_sealed && append.status.closed();
        (self.was_leased && (has_ended || !self.is_current(append))).then_some(self.moves)
    }

    /// Whether it is the one that the stream has now.
    pub(crate) fn is_current(&self, append: &Appending) -> bool {
        self.moves == append.growth.moves
    }
}

impl Shared {
    /// Takes the handles of rings of full size that the stream left before its last move. Smaller
    /// ones, which growth has left, stay. A reader that is still in such a ring keeps the
    /// memory in its own process, and follows later; what a `block` reader is promised is
    /// in the stream's ring, too.
    pub(crate) fn forget_rings(&self, append: &Appending) -> Vec<Ring> {
        if self.shm_readers.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let forget = |reader: &Arc<ReaderState>| {
            let mut elsewhere = lock(&reader.elsewhere);
            let old = elsewhere.as_mut().filter(|ring| ring.moves + 1 < append.growth.moves)?;
            old.ring.take_if(|ring| ring.layout() == self.config.layout())
        };
        lock(&self.readers).iter().filter_map(forget).collect()
    }

    /// The stream's ring, and what another process gets of it. Where others cannot be given the
    /// ring, the stream moves to one that they can be given.
    pub(crate) fn share(&self, can_follow: bool) -> io::Result<(Ring, NextRing)> {
        loop {
            let mut append = lock(&self.append);
            if !can_follow {
                // The process could neither ask the holder to wake it nor follow when the lease
                // ends.
                append.end_lease(self, None);
                release(append, &mut Vec::new(), self);
                append = lock(&self.append);
            }
            if self.is_fit(&append, can_follow) {
                return self.next_ring(&append).ok_or_else(|| io::ErrorKind::OutOfMemory.into());
            }
            let ring = append.ring.ring();
            let (full, now, is_shared) = (self.config.layout(), ring.layout(), ring.is_shared());
            drop(append);
            let layout = if can_follow { now.to_shared(full) } else { full };
            let ring = self.ring_for_others(layout, is_shared, Ring::shared)?;
            // By then another process may be given the ring that the stream has, or that may be too
            // large for this one.
            let stop = |append: &Appending| {
                let is_needless = self.is_fit(append, can_follow)
                    || !layout.has_room_of(append.ring.ring().layout());
                match append.status.removed() {
                    _ if is_needless => Some(Ok(())),
                    true => Some(Err(io::Error::from(io::ErrorKind::NotFound))),
                    false if self.has_descriptor(&ring, append) => None,
                    false => Some(Err(io::ErrorKind::OutOfMemory.into())),
                }
            };
            self.copy_into(&ring, stop, |append, filled| {
                append.move_to(filled, self);
                Ok(())
            })?;
        }
    }

    /// Whether another process can be given the stream's ring.
    fn is_fit(&self, append: &Appending, can_follow: bool) -> bool {
        let ring = append.ring.ring();
        let stays =
            ring.layout() == self.config.layout() && !append.is_sealed && append.lease.is_none();
        ring.is_shared() && (can_follow || stays)
    }

    /// The stream's ring, and what another process gets of it, if it can be shared.
    pub(crate) fn next_ring(&self, append: &Appending) -> Option<(Ring, NextRing)> {
        let ring = append.ring.ring();
        let file = ring.memory().file()?;
        *lock(&self.shared_ring) = Some(ring.clone());
        let wake_files = append.lease.as_ref().map(|lease| Arc::clone(&lease.wake_files));
        let was_leased = wake_files.is_some() || append.is_sealed;
        let (layout, moves) = (ring.layout().to_tell(), append.growth.moves);
        Some((ring.clone(), NextRing { layout, file, wake_files, moves, was_leased }))
    }

    /// Takes memory for a ring that other processes are given, charged as the stream is. A stream
    /// that has a descriptor for its ring passes that on when it moves.
    pub(crate) fn ring_for_others(
        &self,
        layout: Layout,
        has_descriptor: bool,
        make: impl FnOnce(Layout) -> io::Result<Ring>,
    ) -> io::Result<Ring> {
        let refused =
            || io::Error::new(io::ErrorKind::OutOfMemory, "no memory is left that could be shared");
        let mut charge = self.charge(layout).map_err(|_| refused())?;
        if !has_descriptor {
            charge.push(self.descriptors.reserve(1).ok_or_else(refused)?);
        }
        let ring = make(layout)?;
        if layout.bytes() <= MAX_ALLOCATED_BYTES {
            ring.allocate(0, u64::MAX)?;
        }
        ring.charge(charge);
        Ok(ring)
    }

    /// Whether a ring that others are given has a descriptor when the stream moves there: its own,
    /// or that of the ring that is left. The stream may have moved since memory was taken, so one
    /// is taken now where there is none.
    pub(crate) fn has_descriptor(&self, next: &Ring, append: &Appending) -> bool {
        if append.ring.ring().is_shared() || next.charged_to(&self.descriptors) > 0 {
            return true;
        }
        self.descriptors.reserve(1).map(|descriptor| next.add_charge(descriptor)).is_some()
    }

    /// Copies what the stream holds into another ring, and calls `arrive` under the append lock
    /// once that ring has all of it. Ends with what `stop` returns, if it returns something
    /// before. Readers are woken when the stream has arrived.
    pub(crate) fn copy_into<T>(
        &self,
        ring: &Ring,
        stop: impl Fn(&Appending) -> Option<T>,
        arrive: impl FnOnce(&mut Appending, RingWriter) -> T,
    ) -> T {
        let (mut next, mut step) = (None, FIRST_COPY_BYTES);
        loop {
            // Little at a time, so that writers need not wait for long, and more each time, so that
            // they cannot outrun it.
            let mut append = self.look();
            if let Some(stopped) = stop(&append) {
                return stopped;
            }
            let mut filled: RingWriter =
                next.take().unwrap_or_else(|| RingWriter::from(ring.clone(), append.ring.tail()));
            if filled.follow(&append.ring, append.newest, step, step / 64) {
                let arrived = arrive(&mut append, filled);
                release(append, &mut Vec::new(), self);
                self.wake_readers();
                return arrived;
            }
            next = Some(filled);
            step = (2 * step).min(MAX_COPY_BYTES);
        }
    }
}
