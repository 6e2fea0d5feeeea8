//! Buffers of fixed sizes for bytes that are sent to readers. A buffer comes back once its bytes were sent. Busy readers so
//! share a few buffers, which stay in the processor's cache, and touch no fresh memory.
//!
//! A reader that stalls holds one buffer. Small buffers are lent without limit, large ones up to a fixed total: N stalled
//! readers cost N small buffers and a constant.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for the headers that an encoder adds to the bytes of a stream.
const HEADERS: usize = 1 << 10;

/// Bytes of a small buffer. A chunk of 64 KiB, the largest that `pfs write --stream` makes by default, is sent whole.
const SMALL: usize = (64 << 10) + HEADERS;

/// Bytes of a large buffer: large enough for few turns, small enough to stay in the processor's cache until the kernel has
/// copied it.
const LARGE: usize = (512 << 10) + HEADERS;

/// Large buffers lent at a time: 32 MiB. At most as many readers are sent to at full speed at once.
const MAX_LARGE: usize = 64;

/// Buffers of each size that wait for their next use.
const SPARE: usize = 16;

/// Lends buffers to connections. All clones are the same lender.
#[derive(Clone, Debug)]
pub(crate) struct Lender(Arc<Shelves>);

#[derive(Debug)]
struct Shelves {
    small: Mutex<Vec<Vec<u8>>>,
    large: Mutex<Vec<Vec<u8>>>,
    large_left: Arc<Semaphore>,
}

/// A buffer that goes back to the lender when dropped. Memory that has grown, or was allocated elsewhere, is freed instead.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) bytes: Vec<u8>,
    lender: Lender,
    large: Option<OwnedSemaphorePermit>,
}

impl Lender {
    pub(crate) fn new() -> Self {
        let large_left = Arc::new(Semaphore::new(MAX_LARGE));
        Self(Arc::new(Shelves { small: Mutex::default(), large: Mutex::default(), large_left }))
    }

    /// No buffer, for bytes that were put elsewhere.
    pub(crate) fn nothing(&self) -> Lent {
        Lent { bytes: Vec::new(), lender: self.clone(), large: None }
    }

    /// An empty buffer of [`LARGE`] bytes if `large` is set and one is left, else of [`SMALL`] bytes.
    pub(crate) fn buffer(&self, large: bool) -> Lent {
        let large = if large { Arc::clone(&self.0.large_left).try_acquire_owned().ok() } else { None };
        let (spare, capacity) = if large.is_some() { (&self.0.large, LARGE) } else { (&self.0.small, SMALL) };
        // Allocated outside the lock.
        let spare = locked(spare).pop();
        let bytes = spare.unwrap_or_else(|| Vec::with_capacity(capacity));
        Lent { bytes, lender: self.clone(), large }
    }
}

impl Lent {
    /// Whether it is one of the large buffers, and has not grown.
    pub(crate) fn is_large(&self) -> bool {
        self.large.is_some() && self.bytes.capacity() == LARGE
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        let spare = match bytes.capacity() {
            SMALL => &self.lender.0.small,
            LARGE => &self.lender.0.large,
            _ => return,
        };
        bytes.clear();
        let mut spare = locked(spare);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
    }
}

fn locked(spare: &Mutex<Vec<Vec<u8>>>) -> MutexGuard<'_, Vec<Vec<u8>>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_it_was_sent_and_keeps_its_size() {
        let lender = Lender::new();
        for (large, capacity) in [(false, SMALL), (true, LARGE)] {
            let mut lent = lender.buffer(large);
            assert_eq!(lent.bytes.capacity(), capacity);
            lent.bytes.push(1);
            let place = lent.bytes.as_ptr();
            drop(lent);
            let again = lender.buffer(large);
            assert!(again.bytes.is_empty() && again.bytes.as_ptr() == place);
        }
    }

    #[test]
    fn large_buffers_are_lent_up_to_a_total_and_then_small_ones_instead() {
        let lender = Lender::new();
        let mut lent: Vec<_> = (0..MAX_LARGE).map(|_| lender.buffer(true)).collect();
        assert!(lent.iter().all(|lent| lent.bytes.capacity() == LARGE));
        assert_eq!(lender.buffer(true).bytes.capacity(), SMALL);
        lent.pop();
        assert_eq!(lender.buffer(true).bytes.capacity(), LARGE);
    }

    #[test]
    fn neither_buffers_that_have_grown_nor_many_are_kept() {
        let lender = Lender::new();
        let mut grown = lender.buffer(false);
        grown.bytes.reserve_exact(4 << 20);
        drop(grown);
        assert!(locked(&lender.0.small).is_empty());
        drop((0..2 * SPARE).map(|_| lender.buffer(false)).collect::<Vec<_>>());
        assert_eq!(locked(&lender.0.small).len(), SPARE);
    }
}
