//! Rings in shared memory that other processes map, and the move of a stream to such a ring.

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

/// Bytes that are copied in the first step, and at most in any step: about a millisecond's work.
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
    /// Whether a writer of another process has, or had, a lease of this ring.
    was_leased: bool,
}

/// The ring that a reader of another process uses. The ring is counted as long as the stream keeps
/// it here.
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

    /// For a ring to which the holder of a lease appends: the page in which a reader that is about
    /// to sleep asks to be woken, and the event counter by which a reader tells the holder that it
    /// has made room.
    pub fn wake_files(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.wake_files.as_ref().map(|it| it.files())
    }
}

impl RingElsewhere {
    pub(crate) fn new(ring: Ring, next: &NextRing) -> Self {
        Self { moves: next.moves, was_leased: next.was_leased, ring: Some(ring) }
    }

    /// The number of the ring, if the stream has left it or has ended, and a former holder of a
    /// lease could hide that from the reader.
    pub(crate) fn is_over(&self, append: &Appending) -> Option<u64> {
        let has_ended = append.is_sealed && append.status.closed();
        (self.was_leased && (has_ended || !self.is_current(append))).then_some(self.moves)
    }

    /// Whether this is the stream's current ring.
    pub(crate) fn is_current(&self, append: &Appending) -> bool {
        self.moves == append.growth.moves
    }
}

impl Shared {
    /// Takes the handles of full-size rings that the stream left before its last move. Smaller
    /// rings, left by growth, stay. A reader that is still in such a full-size ring keeps the
    /// memory mapped in its own process, and follows later. Everything that a `block` reader is
    /// promised is also in the stream's current ring.
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

    /// The stream's ring, and its description for another process. If the ring cannot be shared,
    /// the stream moves to a ring that can be.
    pub(crate) fn share(&self, can_follow: bool) -> io::Result<(Ring, NextRing)> {
        loop {
            let mut append = lock(&self.append);
            if !can_follow {
                // The process could neither ask the holder to wake it nor follow after the lease.
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
            // By then the stream's ring may be one that can be shared, or may be too large to be
            // copied into this ring.
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

    /// Whether the stream's ring can be given to another process.
    fn is_fit(&self, append: &Appending, can_follow: bool) -> bool {
        let ring = append.ring.ring();
        let stays =
            ring.layout() == self.config.layout() && !append.is_sealed && append.lease.is_none();
        ring.is_shared() && (can_follow || stays)
    }

    /// The stream's ring, and its description for another process, if the ring can be shared.
    pub(crate) fn next_ring(&self, append: &Appending) -> Option<(Ring, NextRing)> {
        let ring = append.ring.ring();
        let file = ring.memory().file()?;
        *lock(&self.shared_ring) = Some(ring.clone());
        let wake_files = append.lease.as_ref().map(|lease| Arc::clone(&lease.wake_files));
        let was_leased = wake_files.is_some() || append.is_sealed;
        let (layout, moves) = (ring.layout().to_tell(), append.growth.moves);
        Some((ring.clone(), NextRing { layout, file, wake_files, moves, was_leased }))
    }

    /// Takes memory for a ring that can be given to other processes, charged as the stream is. A
    /// stream that has a descriptor for its current ring passes it on when it moves.
    pub(crate) fn ring_for_others(
        &self,
        layout: Layout,
        has_descriptor: bool,
        make: impl FnOnce(Layout) -> io::Result<Ring>,
    ) -> io::Result<Ring> {
        let refused =
            || io::Error::new(io::ErrorKind::OutOfMemory, "no memory is left for a shared ring");
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

    /// Whether a ring for other processes will have a descriptor when the stream moves there: its
    /// own, or the descriptor of the old ring. The stream may have moved since the memory was
    /// taken, so this reserves a descriptor if there is none.
    pub(crate) fn has_descriptor(&self, next: &Ring, append: &Appending) -> bool {
        if append.ring.ring().is_shared() || next.charged_to(&self.descriptors) > 0 {
            return true;
        }
        self.descriptors.reserve(1).map(|descriptor| next.add_charge(descriptor)).is_some()
    }

    /// Copies what the stream holds into another ring, and calls `arrive` under the append lock
    /// once that ring has everything. Ends early with the result of `stop`, if `stop` returns one.
    /// Wakes readers when the stream has arrived.
    pub(crate) fn copy_into<T>(
        &self,
        ring: &Ring,
        stop: impl Fn(&Appending) -> Option<T>,
        arrive: impl FnOnce(&mut Appending, RingWriter) -> T,
    ) -> T {
        let (mut next, mut step) = (None, FIRST_COPY_BYTES);
        loop {
            // Copy a little at a time, so that writers need not wait for long, and more each time,
            // so that they cannot outrun the copy.
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
