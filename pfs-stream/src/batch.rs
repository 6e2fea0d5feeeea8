//! Read batch: chunks taken out of the ring buffer together and returned one by one.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use crate::{
    read::{Most, Read},
    sink::Sink,
};

/// Maximum size of a batch; a larger chunk is taken alone. Chunks taken by reference share their
/// memory with the stream, so their limit is higher.
pub(crate) const BATCH: Most = Most { copied: 64 * 1024, taken: 2 * 1024 * 1024 };

/// Chunks that were taken and not returned yet.
///
/// The chunks are either copies that share one allocation, or references to chunks that the stream
/// itself holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Receives the copies during a read; empty otherwise.
    buffer: Vec<u8>,
    /// The end of each copy in the allocation, and the index of the next copy to return.
    ends: Vec<usize>,
    next: usize,
    copies: Bytes,
    /// Bytes of copies that were returned.
    handed: usize,
    /// Approximate size of earlier batches, in bytes.
    before: usize,
    held: VecDeque<Bytes>,
}

impl Batch {
    /// Returns the next chunk.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if let Some(&end) = self.ends.get(self.next) {
            self.next += 1;
            let len = end.saturating_sub(mem::replace(&mut self.handed, end));
            // The last copy takes the allocation along, so that the batch keeps none of it.
            let last = self.next == self.ends.len();
            return Some(if last {
                mem::take(&mut self.copies)
            } else {
                self.copies.split_to(len)
            });
        }
        self.held.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.ends.len() && self.held.is_empty()
    }

    /// Bytes not returned yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.copies.len() as u64 + self.held.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    }

    /// Prepares for a read. The batch must be empty.
    pub(crate) fn begin(&mut self) {
        self.ends.clear();
        self.next = 0;
        (self.before, self.handed) = (self.handed.max(self.before / 2), 0);
    }

    /// Ends a read: the chunks taken can be returned.
    pub(crate) fn end(&mut self) {
        self.copies = mem::take(&mut self.buffer).into();
    }

    /// Moves the remaining chunks to a sink, up to about `max_bytes`. For a reader that switches
    /// from events to reads into a sink.
    pub(crate) fn pour(&mut self, sink: &mut impl Sink, max_bytes: usize) -> Option<Read> {
        let (mut chunks, mut bytes) = (0, 0);
        while !self.is_empty() && bytes < max_bytes.max(1) {
            let chunk = self.next()?;
            (chunks, bytes) = (chunks + 1, bytes + chunk.len());
            sink.hold(chunk);
        }
        (chunks > 0).then_some(Read::Data { chunks, bytes })
    }
}

impl Sink for Batch {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn joins(&self) -> bool {
        true
    }

    fn chunks(&mut self, ends: &[usize]) {
        let begin = self.buffer.len();
        if begin == 0 {
            // Reserve as much as earlier batches took, so that the buffer need not grow step by
            // step. An idle reader keeps no buffer.
            self.buffer.reserve(ends.last().copied().unwrap_or(0).max(self.before));
        }
        self.ends.extend(ends.iter().map(|end| begin.saturating_add(*end)));
    }

    fn queue(&mut self) -> Option<&mut VecDeque<Bytes>> {
        Some(&mut self.held)
    }

    /// Clears everything: the batch is empty when a read begins, so nothing older is lost.
    fn undo_to(&mut self, len: usize) {
        self.buffer.truncate(len);
        self.ends.clear();
        self.held.clear();
    }
}
