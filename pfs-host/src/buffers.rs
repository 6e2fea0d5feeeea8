//! Buffers of fixed sizes for bytes that are sent to readers.
//!
//! A reader that stalls holds one buffer. The number of small buffers has no limit, large ones are
//! made up to a fixed total: N stalled readers cost N small buffers and a constant.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for the headers that an encoder adds to the bytes of a stream.
const HEADERS: usize = 1024;

/// Bytes of a small buffer. A chunk of 64 KiB, the largest that `pfs write --stream` makes by
/// default, is sent whole.
const SMALL_BUFFER_BYTES: usize = (64 * 1024) + HEADERS;

/// Bytes of a large buffer: large enough for few turns, small enough to stay in the processor's
/// cache until the kernel has copied it.
const LARGE_BUFFER_BYTES: usize = (512 * 1024) + HEADERS;

/// Large buffers in use at a time: 32 MiB. At most as many readers are sent to at full speed at
/// once.
const MAX_LARGE_BUFFERS: usize = 64;

/// Makes the buffers of all connections. All clones have one limit.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    large_left: Arc<Semaphore>,
}

/// Memory for bytes that are sent. The default has none, for bytes that were put elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    large: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { large_left: Arc::new(Semaphore::new(MAX_LARGE_BUFFERS)) }
    }

    /// An empty buffer of [`LARGE_BUFFER_BYTES`] bytes if `large` is set and one is left, else of
    /// [`SMALL_BUFFER_BYTES`] bytes.
    pub(crate) fn buffer(&self, large: bool) -> Buffer {
        let large =
            if large { Arc::clone(&self.large_left).try_acquire_owned().ok() } else { None };
        Buffer {
            bytes: Vec::with_capacity(if large.is_some() {
                LARGE_BUFFER_BYTES
            } else {
                SMALL_BUFFER_BYTES
            }),
            large,
        }
    }
}

impl Buffer {
    /// Whether it is one of the large buffers, and has not grown.
    pub(crate) fn is_large(&self) -> bool {
        self.large.is_some() && self.bytes.capacity() == LARGE_BUFFER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_made_up_to_a_total_and_then_small_ones_instead() {
        let buffers = Buffers::new();
        let mut made: Vec<_> = (0..MAX_LARGE_BUFFERS).map(|_| buffers.buffer(true)).collect();
        assert!(
            made.iter()
                .all(|buffer| buffer.is_large() && buffer.bytes.capacity() == LARGE_BUFFER_BYTES)
        );
        assert_eq!(buffers.buffer(true).bytes.capacity(), SMALL_BUFFER_BYTES);
        made.pop();
        assert_eq!(buffers.buffer(true).bytes.capacity(), LARGE_BUFFER_BYTES);
    }
}
