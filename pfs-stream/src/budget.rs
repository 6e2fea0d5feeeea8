//! Budgets: counts memory, descriptors or streams in use against a limit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A limit on the bytes, descriptors, streams or connections in use at a time. Clones share one
/// count of what is in use.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    used: AtomicU64,
    limit: AtomicU64,
}

/// A reserved part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

/// No limit.
impl Default for Budget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Budget {
    /// A budget with nothing in use.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Counters { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }))
    }

    /// Whether this is the only handle, and nothing is in use. A reservation is a handle, too.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Relaxed)
    }

    /// Changes the limit. A lower limit takes nothing away: new reservations fail until enough was
    /// given back.
    pub fn set_limit(&self, limit: u64) {
        self.0.limit.store(limit, Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Relaxed)
    }

    /// Whether the budget is used up.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used() >= self.limit()
    }

    /// Reserves bytes. `None` if that would exceed the limit.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.reserve_beyond(bytes, 0)
    }

    /// Reserves bytes, and tolerates `spared` bytes beyond the limit, because the caller gives that
    /// many back next.
    pub(crate) fn reserve_beyond(&self, bytes: u64, spared: u64) -> Option<Reservation> {
        self.take(bytes, spared).then(|| Reservation { budget: self.clone(), bytes })
    }

    fn take(&self, bytes: u64, spared: u64) -> bool {
        let limit = self.limit().saturating_add(spared);
        let within = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        self.0.used.fetch_update(Relaxed, Relaxed, within).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Relaxed);
    }
}

impl Reservation {
    /// Whether this is a part of `budget`.
    pub(crate) fn is_of(&self, budget: &Budget) -> bool {
        Arc::ptr_eq(&self.budget.0, &budget.0)
    }

    /// The number of reserved bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves bytes into a separate reservation, or all of them if there are no more than `bytes`.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    /// Changes the reservation to `bytes`. Returns false, and changes nothing, if that would exceed
    /// the limit.
    #[must_use]
    pub fn resize(&mut self, bytes: u64) -> bool {
        if bytes < self.bytes {
            self.budget.give_back(self.bytes - bytes);
        } else if !self.budget.take(bytes - self.bytes, 0) {
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reservations_never_exceed_the_limit_and_are_given_back() {
        let budget = Budget::new(10);
        let mut one = budget.reserve(4).unwrap();
        assert!(one.resize(10) && !one.resize(11));
        assert_eq!((one.bytes(), budget.used()), (10, 10));
        assert!(budget.reserve(1).is_none() && budget.reserve(u64::MAX).is_none());
        assert!(one.resize(3));
        let other = budget.reserve(7).unwrap();
        assert!(!one.resize(4) && one.resize(0));
        drop((one, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_split_off_reservation_is_given_back_separately() {
        let budget = Budget::new(10);
        let mut one = budget.reserve(7).unwrap();
        let other = one.split(3);
        assert_eq!((one.bytes(), other.bytes(), budget.used()), (4, 3, 7));
        drop(one);
        assert_eq!(budget.used(), 3);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_limit_below_what_is_in_use_takes_nothing_away_and_refuses_more() {
        let budget = Budget::new(10);
        let mut one = budget.reserve(8).unwrap();
        budget.clone().set_limit(5);
        assert_eq!((budget.limit(), budget.used()), (5, 8));
        assert!(budget.reserve(1).is_none() && !one.resize(9));
        assert!(
            one.resize(6),
            "returned amounts are subtracted, although more is in use than the limit"
        );
        assert!(budget.reserve(1).is_none());
        assert!(one.resize(4));
        let _other = budget.reserve(1).unwrap();
        budget.set_limit(20);
        assert!(budget.reserve(15).is_some());
    }
}
