//! Buffers that come back once they have been sent, so that what is sent to busy readers goes through the same few, which are
//! in the processor's cache, and touches no fresh memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Smaller buffers are not worth it.
const SMALLEST: usize = 16 << 10;

/// A larger buffer held one huge chunk, whose size it must not leave behind.
const LARGEST: usize = 1 << 20;

/// So many wait for their next use, whoever used them before.
const SPARE: usize = 16;

/// Lends buffers to connections. All clones are the same lender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lender(Arc<Mutex<Vec<Vec<u8>>>>);

impl Lender {
    /// A buffer to fill: the one that came back last, or an empty one.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.spare().pop().unwrap_or_default()
    }

    /// Takes back a buffer that is not needed any more.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        if (SMALLEST..=LARGEST).contains(&buffer.capacity()) {
            buffer.clear();
            let mut spare = self.spare();
            if spare.len() < SPARE {
                spare.push(buffer);
            }
        }
    }

    /// The bytes as a connection takes them.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if (SMALLEST..=LARGEST).contains(&bytes.capacity()) {
            Bytes::from_owner(Lent { bytes, home: self.clone() })
        } else {
            Bytes::from(bytes)
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a connection has not sent yet.
struct Lent {
    bytes: Vec<u8>,
    home: Lender,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_all_of_it_was_sent() {
        let lender = Lender::default();
        let sent = lender.lend(vec![1; 64 << 10]);
        let part = sent.slice(10..20);
        drop(sent);
        assert_eq!(lender.buffer().capacity(), 0, "a part of it is still being sent");
        drop(part);
        let back = lender.buffer();
        assert!(back.is_empty() && back.capacity() >= 64 << 10);
    }

    #[test]
    fn neither_huge_buffers_nor_many_are_kept() {
        let lender = Lender::default();
        drop(lender.lend(vec![1; 4 << 20]));
        assert_eq!(lender.buffer().capacity(), 0);
        let sent: Vec<_> = (0..2 * SPARE).map(|_| lender.lend(vec![1; SMALLEST])).collect();
        drop(sent);
        assert_eq!(lender.spare().len(), SPARE);
    }
}
