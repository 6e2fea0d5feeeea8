//! Chunks that are taken out of the ring together, and handed on one by one.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use crate::{
    read::{Most, Read},
    sink::Sink,
};

/// How much is taken at once; a larger chunk is taken alone. References keep what others keep as
/// well, so they may be more.
pub(crate) const BATCH: Most = Most { copied: 64 * 1024, taken: 2 * 1024 * 1024 };

/// Chunks that were taken and are still to be handed on.
///
/// Either copies, which share one allocation, or references to what the stream itself holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Where copies go while they are taken; empty otherwise.
    buffer: Vec<u8>,
    /// Where each copy ends in what was taken, and which comes next.
    ends: Vec<usize>,
    next: usize,
    copies: Bytes,
    /// Bytes of copies that were handed on.
    handed: usize,
    /// About how many came together before.
    before: usize,
    held: VecDeque<Bytes>,
}

impl Batch {
    /// The next chunk.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if let Some(&end) = self.ends.get(self.next) {
            self.next += 1;
            let len = end.saturating_sub(mem::replace(&mut self.handed, end));
            // The last one takes the allocation along, so that nothing is kept of it here.
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

    /// Bytes that are still to be handed on.
    pub(crate) fn bytes(&self) -> u64 {
        self.copies.len() as u64 + self.held.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    }

    /// Makes ready to take; it must be empty.
    pub(crate) fn begin(&mut self) {
        self.ends.clear();
        self.next = 0;
        (self.before, self.handed) = (self.handed.max(self.before / 2), 0);
    }

    /// What was taken can be handed on.
    pub(crate) fn end(&mut self) {
        self.copies = mem::take(&mut self.buffer).into();
    }

    /// Gives what is still to be handed on to a sink, at most about so many bytes of it: for a
    /// reader that changes from one way of reading to another.
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
            // Room for as much as came before, so that it need not grow step by step. None is kept
            // while nothing comes.
            self.buffer.reserve(ends.last().copied().unwrap_or(0).max(self.before));
        }
        self.ends.extend(ends.iter().map(|end| begin.saturating_add(*end)));
    }

    fn queue(&mut self) -> Option<&mut VecDeque<Bytes>> {
        Some(&mut self.held)
    }

    /// Nothing is in it when a read begins, so all is of that read.
    fn undo_to(&mut self, len: usize) {
        self.buffer.truncate(len);
        self.ends.clear();
        self.held.clear();
    }
}
