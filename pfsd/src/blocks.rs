//! Blocks that several readers of a stream are sent, copied out of its ring once.
//!
//! A reader that copied something leaves it here, and those who come to the same offset afterwards take it, so that what the
//! daemon copies does not grow with the number of readers that keep up. A block is gone when everybody had it, or when the
//! ring has moved past it: those who stay behind cost no more than a second ring, and of a large one only a part.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use pfs_stream::Reader;

/// The most bytes that wait for somebody, of one stream.
const MOST: u64 = 8 << 20;

/// Smaller blocks are sooner copied than shared.
pub(crate) const SMALLEST: usize = 16 << 10;

/// Whole chunks as they are sent, with their headers.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// How many chunks.
    pub(crate) chunks: usize,
    /// Their bytes, without the headers.
    pub(crate) len: usize,
    pub(crate) sent: Bytes,
}

/// The blocks of one stream, as one of its readers has them.
#[derive(Debug)]
pub(crate) struct Blocks {
    shelf: Arc<Shelf>,
    /// How far back from the newest one they may begin.
    most: u64,
}

/// What a stream keeps.
#[derive(Debug, Default)]
struct Shelf(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    readers: usize,
    /// The offset where each begins, and how many readers have not had it.
    blocks: VecDeque<(u64, usize, Block)>,
}

impl Shelf {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    /// For one reader more.
    pub(crate) fn of(reader: &Reader) -> Self {
        let stream = reader.stream();
        let config = stream.config();
        Self::on(stream.kept(), config.ring_buffer_size.max(config.channel_buffer_size))
    }

    fn on(shelf: Arc<Shelf>, ring: u64) -> Self {
        shelf.waiting().readers += 1;
        Self { shelf, most: ring.min(MOST) }
    }

    /// The block that begins at this offset. To be asked once for each place.
    pub(crate) fn take(&self, offset: u64) -> Option<Block> {
        let mut waiting = self.shelf.waiting();
        let index = waiting.blocks.iter().position(|(start, ..)| *start == offset)?;
        let (_, left, block) = waiting.blocks.get_mut(index)?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Some(block.clone());
        }
        waiting.blocks.remove(index).map(|(.., block)| block)
    }

    /// Whether there is anybody to leave a block for.
    pub(crate) fn are_wanted(&self) -> bool {
        self.shelf.waiting().readers > 1
    }

    /// Leaves a block for the other readers.
    pub(crate) fn put(&self, offset: u64, block: Block) {
        let mut waiting = self.shelf.waiting();
        let others = waiting.readers.saturating_sub(1);
        if others == 0 || waiting.blocks.iter().any(|(start, ..)| *start == offset) {
            return;
        }
        waiting.blocks.push_back((offset, others, block));
        let newest = waiting.blocks.iter().map(|(start, ..)| *start).max().unwrap_or(offset);
        waiting.blocks.retain(|(start, ..)| newest.saturating_sub(*start) < self.most);
    }
}

impl Drop for Blocks {
    /// Nothing waits for a reader that has left.
    fn drop(&mut self) {
        let mut waiting = self.shelf.waiting();
        waiting.readers = waiting.readers.saturating_sub(1);
        // One of those who stay is the one that left the block.
        let others = waiting.readers.saturating_sub(1);
        waiting.blocks.retain_mut(|(_, left, _)| {
            *left = (*left).min(others);
            *left > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers<const N: usize>() -> [Blocks; N] {
        let shelf = Arc::<Shelf>::default();
        std::array::from_fn(|_| Blocks::on(Arc::clone(&shelf), 50))
    }

    fn block() -> Block {
        Block { chunks: 1, len: 3, sent: Bytes::from_static(b"one") }
    }

    #[test]
    fn a_block_is_gone_when_every_other_reader_had_it() {
        let [one, two, three] = readers();
        one.put(7, block());
        assert!(two.take(6).is_none());
        assert_eq!(two.take(7).unwrap().sent, "one");
        assert_eq!(three.take(7).unwrap().sent, "one");
        assert!(three.take(7).is_none());
    }

    #[test]
    fn nothing_waits_for_a_reader_that_left_or_never_was() {
        let [one, two] = readers();
        one.put(7, block());
        drop(two);
        assert!(one.take(7).is_none());
        assert!(!one.are_wanted());
        one.put(8, block());
        assert!(one.shelf.waiting().blocks.is_empty());
    }

    #[test]
    fn blocks_that_the_ring_has_moved_past_wait_for_nobody() {
        let [one, two] = readers();
        for offset in 0..100 {
            one.put(offset, block());
        }
        assert_eq!(two.shelf.waiting().blocks.len(), 50);
        assert!(two.take(49).is_none() && two.take(50).is_some() && two.take(99).is_some());
    }
}
