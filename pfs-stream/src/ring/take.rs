//! Zero-copy reading of a ring that holds large chunks by reference.

use std::collections::VecDeque;

use bytes::Bytes;
use pfs_proto::Until;

use super::{MIN_HELD_BYTES, RingReader, Violation, held::HazardSlot, layout};
use crate::{
    read::{Most, Position, Read},
    sink::Sink,
    sync::{
        Ordering::{Acquire, Relaxed},
        fence,
    },
};

/// The most references that are taken at a time.
const RUN: usize = if cfg!(loom) { 2 } else { 64 };

impl RingReader {
    /// Reads the next chunks: gives the sink the next references, or [copies](Self::copy) chunks up
    /// to the next reference. `None` if the writer overtook the read; the sink is then unchanged.
    pub(super) fn take(
        &mut self,
        head_seq: u64,
        sink: &mut impl Sink,
        most: Most,
    ) -> Result<Option<Read>, Violation> {
        let Some(hazard) = self.hazard.as_ref().filter(|hazard| !hazard.has_none()) else {
            return self.copy(head_seq, sink, most.copied);
        };
        if !hazard.is_held(self.seq) {
            let to = self.copied_up_to(hazard, head_seq, most.copied);
            return self.copy(to, sink, most.copied);
        }
        if let Some(queue) = sink.queue() {
            return Ok(self.take_references(head_seq, most.taken, queue));
        }
        let mut queue = VecDeque::new();
        let read = self.take_references(head_seq, most.taken, &mut queue);
        // Only now, after the hazard was reset: the sink may take long with each chunk, and would
        // keep the writer from reclaiming.
        queue.into_iter().for_each(|chunk| sink.hold(chunk));
        Ok(read)
    }

    /// Queues references to about `most` bytes at most. `None` if the writer overtook the read.
    fn take_references(
        &mut self,
        head_seq: u64,
        most: usize,
        queue: &mut VecDeque<Bytes>,
    ) -> Option<Read> {
        queue.reserve(RUN);
        // A reader may start inside a chunk. The start of that chunk is correct if tail is
        // afterwards found not to be past the chunk.
        let start = self.ring.load(self.ring.index().start_of(self.seq), Relaxed);
        fence(Acquire);
        let mut taking =
            self.hazard.as_mut()?.take_from(self.seq, self.ring.word(layout::TAIL_SEQ))?;
        let stop = if self.until == Until::CaughtUp { self.head_at_attach } else { u64::MAX };
        let most = self.offset.saturating_add(most as u64);
        let to = head_seq.min(self.seq + RUN as u64);
        // The first chunk may be larger than `most`.
        let first = taking.next(u64::MAX)?;
        let mut offset = start + first.len() as u64;
        queue.push_back(if start < self.offset {
            first.slice((self.offset - start) as usize..)
        } else {
            first
        });
        while taking.seq() < to && offset < stop {
            let Some(chunk) = taking.next(most.saturating_sub(offset)) else { break };
            offset += chunk.len() as u64;
            queue.push_back(chunk);
        }
        let seq = taking.seq();
        drop(taking);
        let read = Read::Data {
            chunks: (seq - self.seq) as usize,
            bytes: (offset - self.offset) as usize,
        };
        self.advance(Position { seq, offset });
        Some(read)
    }

    /// The first held chunk after the next chunk, or the end of the chunks that can be copied at
    /// once, if that comes first.
    fn copied_up_to(&self, hazard: &HazardSlot, head_seq: u64, max_bytes: usize) -> u64 {
        let most = self.offset.saturating_add(max_bytes as u64);
        let mut seq = self.seq + 1;
        let index = self.ring.index();
        let mut entry = index.entry_of(seq);
        let mut start = self.ring.load(index.start_at(entry), Relaxed);
        while seq < head_seq {
            entry = index.entry_after(entry);
            let end = self.ring.load(index.start_at(entry), Relaxed);
            if end > most
                || end.saturating_sub(start) >= MIN_HELD_BYTES as u64 && hazard.is_held(seq)
            {
                break;
            }
            (seq, start) = (seq + 1, end);
        }
        seq
    }
}
