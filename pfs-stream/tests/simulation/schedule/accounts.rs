//! Accounting: the memory and descriptors that must be counted.

use std::collections::BTreeSet;

use super::{Attached, Schedule};
use crate::{
    following::Following,
    rings::{Before, Cause},
};

/// The least and the most.
type Bounds = (u64, u64);

impl Schedule {
    /// What is known of a stream's rings before an action. `None` if the stream was removed, and
    /// keeps the ring that it had.
    pub(super) fn before(&self, at: usize) -> Option<Before> {
        let stream = self.handle(at)?;
        let ledger = &self.streams[at].ledger;
        if ledger.is_leased() || ledger.is_sealed() {
            return Some(ledger.rings.before_end(ledger.held()));
        }
        let stat = stream.stat();
        Some(ledger.rings.before(&stat, ledger.held()))
    }

    /// Records the rings that a stream has moved to since.
    pub(super) fn note_moves(&mut self, at: usize, before: Option<Before>, cause: Cause) {
        let (Some(before), Some(stream)) = (before, self.handle(at)) else { return };
        let stat = stream.stat();
        let Attached { ledger, readers, .. } = &mut self.streams[at];
        let from = ledger.rings.current();
        let has_moved = stat.moves != from as u64;
        let found = readers.iter().filter(|_| has_moved).find_map(|reader| reader.counters(from));
        ledger.rings.note(before, &stat, found, cause);
        if has_moved {
            ledger.left_ring();
        }
        let (shm, ring) =
            (readers.iter().filter(|it| it.is_shm()).count(), ledger.rings.ring(from));
        if has_moved {
            self.tell(|| {
                format!("{at} moves, read elsewhere by {shm}, from {ring:?} to {}", stat.capacity)
            });
        }
    }

    /// Checks that exactly the memory is counted that the streams take and that readers still keep
    /// in old rings. The rings of a removed stream are given back when no other process has one of
    /// them, except rings from the heap.
    pub(super) fn check_memory(&self) {
        let counted = self.registry.memory();
        let (mut taken, mut is_exact) = (0, true);
        for at in 0..self.streams.len() {
            taken += self.offered(at);
            let Attached { ledger, readers, .. } = &self.streams[at];
            let (rings, current) = (&ledger.rings, ledger.rings.current());
            let mut add = |bytes: Option<u64>| {
                is_exact &= bytes.is_some();
                taken += bytes.unwrap_or(0);
            };
            // Of the full-size rings that the stream has left, readers of other processes keep only
            // the last one counted.
            let is_kept =
                |it: &&Following| !it.is_shm() || it.ring + 1 >= current || !rings.is_full(it.ring);
            let left: BTreeSet<_> = readers
                .iter()
                .filter(is_kept)
                .map(|it| it.ring)
                .filter(|ring| *ring != current)
                .collect();
            left.into_iter().for_each(|ring| add(rings.ring(ring).bytes));
            if !ledger.removed && (ledger.is_leased() || ledger.is_sealed()) {
                add(rings.ring(current).bytes.map(|bytes| rings.overhead + bytes));
            } else if let Some(stream) = self.handle(at) {
                add(Some(stream.stat().memory));
            } else if readers.iter().any(Following::is_shm) {
                add(rings.ring(current).bytes.map(|bytes| rings.overhead + bytes));
            } else {
                add(rings.heap_bytes(current));
            }
        }
        if is_exact {
            assert_eq!(counted, taken, "the counted bytes differ from the taken bytes");
        } else {
            assert!(
                counted >= taken,
                "{counted} bytes are counted, but at least {taken} are taken"
            );
        }
    }

    /// The number of descriptors that are counted.
    fn descriptors(&self) -> Bounds {
        let counted = |at: usize| -> Bounds {
            let Attached { ledger, readers, .. } = &self.streams[at];
            let is_shared = ledger.rings.ring(ledger.rings.current()).is_shared;
            // A lease has a page in addition to the ring, and readers that received the page may
            // still have it.
            let shm = readers.iter().filter(|it| it.is_shm()).count() as u64;
            let offers = 2 * u64::from(self.offered(at) > 0) + shm;
            if ledger.removed {
                let is_kept = readers.iter().any(Following::is_shm);
                let most = is_kept && is_shared != Some(false);
                (u64::from(most && is_shared == Some(true)), u64::from(most) + offers)
            } else if ledger.is_leased() {
                (2, 2 + offers)
            } else if ledger.is_sealed() {
                (1, 1 + offers)
            } else {
                // A ring that is being filled may be shared.
                (u64::from(is_shared == Some(true)), 1 + offers)
            }
        };
        let add = |sum: Bounds, more: Bounds| (sum.0 + more.0, sum.1 + more.1);
        (0..self.streams.len()).map(counted).fold((0, 0), add)
    }

    /// Checks that a stream can be shared if it is shared already, or if there is a descriptor for
    /// its ring.
    pub(super) fn check_descriptors(&self) {
        let (least, most) = self.descriptors();
        for at in 0..self.streams.len() {
            let Some(stream) = self.handle(at).filter(|_| self.streams[at].ledger.is_looked_at)
            else {
                continue;
            };
            let rings = &self.streams[at].ledger.rings;
            let is_shared = rings.ring(rings.current()).is_shared;
            if is_shared == Some(true) || most < self.max_descriptors {
                assert!(
                    stream.is_shared(),
                    "{most} descriptors are counted of {}",
                    self.max_descriptors
                );
            } else if is_shared == Some(false) && least >= self.max_descriptors {
                assert!(
                    !stream.is_shared(),
                    "{least} descriptors are counted of {}",
                    self.max_descriptors
                );
            }
        }
    }
}
