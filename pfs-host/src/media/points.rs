//! Sync points of a stream, as far as they are kept.

use std::collections::VecDeque;

/// Maximum number of sync points that are kept, about: of two that are closer than the ring size
/// divided by this number, only the first is kept, and the newest of all.
const MAX_POINTS: u64 = 1024;

/// Sync points, in order.
#[derive(Debug, Default)]
pub(super) struct Points {
    kept: VecDeque<u64>,
    /// The newest sync point, and the one before it.
    pub(super) newest: Option<u64>,
    pub(super) before: Option<u64>,
}

impl Points {
    /// The smallest distance of the sync points that are kept, for a ring of this size.
    pub(super) fn distance(capacity: u64) -> u64 {
        capacity / MAX_POINTS
    }

    pub(super) fn add(&mut self, point: u64, distance: u64) {
        let last = self.kept.back();
        if last.is_none_or(|last| point.saturating_sub(*last) >= distance) {
            self.kept.push_back(point);
        }
        self.before = self.newest.replace(point);
    }

    /// Forgets the sync points before `tail`.
    pub(super) fn forget_before(&mut self, tail: u64) {
        let gone = self.kept.partition_point(|point| *point < tail);
        self.kept.drain(..gone);
        self.newest = self.newest.filter(|newest| *newest >= tail);
        if let Some(newest) = self.newest.filter(|_| self.kept.is_empty()) {
            self.kept.push_back(newest);
        }
    }

    /// Keeps only the newest sync point.
    pub(super) fn keep_newest(&mut self) {
        self.kept = self.newest.into_iter().collect();
    }

    /// The first sync point from `offset` on.
    pub(super) fn first_from(&self, offset: u64) -> Option<u64> {
        let at = self.kept.partition_point(|point| *point < offset);
        self.kept.get(at).copied().or(self.newest.filter(|newest| *newest >= offset))
    }

    /// The last sync point up to `offset`.
    pub(super) fn last_up_to(&self, offset: u64) -> Option<u64> {
        if let Some(newest) = self.newest.filter(|newest| *newest <= offset) {
            return Some(newest);
        }
        let after = self.kept.partition_point(|point| *point <= offset);
        self.kept.get(after.checked_sub(1)?).copied()
    }

    /// Memory of the sync points, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.kept.capacity().saturating_mul(size_of::<u64>())
    }
}
