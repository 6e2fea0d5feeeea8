//! Atomics and locks of the engine: the standard ones, or loom's for model checking.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
};

/// Standard `UnsafeCell` with loom's interface. Nothing but the protocol of the ring buffer keeps
/// accesses apart.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, reads: impl FnOnce(*const T) -> R) -> R {
        reads(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, writes: impl FnOnce(*mut T) -> R) -> R {
        writes(self.0.get())
    }
}

/// Locks a mutex, ignoring poison: every critical section of the engine leaves its data consistent
/// at each step that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
