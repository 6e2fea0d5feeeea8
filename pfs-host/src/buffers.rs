//! Buffer pool of two fixed sizes, for bytes that are sent to readers.
//!
//! A stalled reader holds one buffer. Small buffers are unlimited; large buffers are limited to a
//! fixed total. Therefore N stalled readers cost N small buffers and a constant.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for the headers that an encoder adds to the bytes of a stream.
const HEADERS: usize = 1024;

/// Size of a small buffer. It holds a chunk of 64 KiB, the largest that `pfs write --stream` makes
/// by default, as a whole.
const SMALL_BUFFER_BYTES: usize = (64 * 1024) + HEADERS;

/// Size of a large buffer: large enough that a busy reader needs few rounds of reading and sending,
/// small enough to stay in the processor's cache until the kernel has copied it.
const LARGE_BUFFER_BYTES: usize = (512 * 1024) + HEADERS;

/// Limit on large buffers in use: 32 MiB in total. At most this many readers are served at full
/// speed at the same time.
const MAX_LARGE_BUFFERS: usize = 64;

/// Allocates the buffers of all connections. Clones share one limit.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    large_left: Arc<Semaphore>,
}

/// A buffer for bytes to send. The default has no memory, for bytes that live elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    large: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { large_left: Arc::new(Semaphore::new(MAX_LARGE_BUFFERS)) }
    }

    /// Allocates an empty buffer: of [`LARGE_BUFFER_BYTES`] if `large` is set and a large buffer is
    /// left, otherwise of [`SMALL_BUFFER_BYTES`].
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
    /// Whether this is a large buffer that has not grown.
    pub(crate) fn is_large(&self) -> bool {
        self.large.is_some() && self.bytes.capacity() == LARGE_BUFFER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_have_a_limit_and_small_ones_replace_them_beyond_it() {
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
