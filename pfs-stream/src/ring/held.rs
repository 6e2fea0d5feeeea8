//! Large chunks that a ring of one process holds by reference, so that neither side copies them.
//!
//! Where such a chunk would lie in the ring's data, nothing lies; the bytes are in a cell of a table beside it. All else is
//! as ever: index, head and tail say what can be read, and a reader that takes a reference looks at the tail again
//! afterwards. A cell is a lock that is held for as long as it takes to count a reference, by readers together.
//!
//! There is a cell for each [`GRAIN`] of the data. A chunk of that size or more has the cell of the grain that it starts in
//! to itself, for the next one starts in another.

use std::{mem, sync::PoisonError};

use bytes::Bytes;
use pfs_proto::Until;

use super::{Layout, Ring, RingReader, layout};
use crate::{
    Sink,
    reader::Read,
    sync::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed},
        RwLock, fence,
    },
};

/// Chunks of so many bytes and more are held.
pub(crate) const GRAIN: usize = 4096;

/// A chunk that is held, and which one it is.
///
/// In a cache line of its own, which is all that a reader and the writer have of each other when they meet at a chunk.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(RwLock<Option<(u64, Bytes)>>);

/// Chunks that were there when a reader last looked, as long as it takes none in any other way.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The chunk that is read next, and its place in the data.
    seq: u64,
    place: u64,
    /// The chunk after the last of them.
    until: u64,
}

/// The large chunks that a ring holds.
#[derive(Debug)]
pub(crate) struct Held {
    cells: Box<[Cell]>,
    /// Cells that are taken. Written under the stream's lock alone.
    count: AtomicUsize,
}

impl Held {
    pub(crate) fn new(layout: Layout) -> Self {
        let cells = layout.capacity().div_ceil(GRAIN as u64);
        Self { cells: (0..cells).map(|_| Cell::default()).collect(), count: AtomicUsize::new(0) }
    }

    /// The cell of a chunk that begins at this place in the data.
    fn cell(&self, place: u64) -> &Cell {
        &self.cells[place as usize / GRAIN]
    }

    /// Holds chunk `seq`, which has this place; what was there is gone. Before it is published; after the tail has passed what
    /// was there.
    #[inline]
    pub(super) fn put(&self, seq: u64, place: u64, chunk: &Bytes, gone: &mut Vec<Bytes>) {
        let mut cell = self.cell(place).0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *cell {
            Some((held, before)) => {
                gone.push(mem::replace(before, chunk.clone()));
                *held = seq;
            }
            none => {
                *none = Some((seq, chunk.clone()));
                self.count.store(self.count.load(Relaxed) + 1, Relaxed);
            }
        }
    }

    /// Whether chunks at these places have the same cell.
    pub(super) fn is_same(place: u64, other: u64) -> bool {
        place / GRAIN as u64 == other / GRAIN as u64
    }

    /// Lets go of chunk `seq`, if it is held. After the tail has passed it.
    pub(super) fn forget(&self, seq: u64, place: u64) -> Option<Bytes> {
        let mut cell = self.cell(place).0.write().unwrap_or_else(PoisonError::into_inner);
        let (_, chunk) = cell.take_if(|(held, _)| *held == seq)?;
        self.count.store(self.count.load(Relaxed) - 1, Relaxed);
        Some(chunk)
    }

    #[inline]
    fn get(&self, seq: u64, place: u64) -> Option<Bytes> {
        let cell = self.cell(place).0.read().unwrap_or_else(PoisonError::into_inner);
        cell.as_ref().filter(|(held, _)| *held == seq).map(|(_, chunk)| chunk.clone())
    }

    /// Whether it holds nothing. Asked after a head was seen, it knows of every chunk before that.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }
}

impl Ring {
    /// As [`new`](Self::new), but for one process, and holding large chunks by reference.
    pub(crate) fn holding(layout: Layout) -> std::io::Result<Self> {
        Ok(Self { held: Some(super::Arc::new(Held::new(layout))), ..Self::new(layout)? })
    }

    /// Whether it is for one process, and holds large chunks by reference.
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }
}

impl RingReader {
    /// Gives the sink the references that come next, or copies up to the next reference; as [`copy`](Self::copy) otherwise.
    pub(super) fn take(&mut self, head_seq: u64, sink: &mut impl Sink, max_bytes: usize) -> Option<Read> {
        let Some(held) = self.ring.held.as_deref().filter(|held| !held.is_empty()) else {
            return self.copy(head_seq, sink, max_bytes);
        };
        let mark = sink.buffer().len();
        let (mut seq, mut offset) = (self.seq, self.offset);
        let capacity = self.ring.layout.capacity();
        let mut entry = self.ring.entry_of(seq);
        let mut start = self.ring.start_at(entry);
        let mut place = start % capacity;
        while seq < head_seq {
            let next = self.ring.entry_after(entry, 1);
            let end = self.ring.start_at(next);
            if seq > self.seq && end.saturating_sub(self.offset) > max_bytes as u64
                || self.until == Until::CaughtUp && offset >= self.head_at_attach
            {
                break;
            }
            let Some(chunk) = held.get(seq, place) else { break };
            // A reader may start inside a chunk. What does not fit together is being overwritten, which will be seen.
            let skip = offset.saturating_sub(start) as usize;
            if chunk.len() as u64 != end.saturating_sub(start) || skip >= chunk.len() {
                break;
            }
            sink.hold(if skip == 0 { chunk } else { chunk.slice(skip..) });
            place += end - start;
            place -= if place >= capacity { capacity } else { 0 };
            (seq, offset, entry, start) = (seq + 1, end, next, end);
        }
        if seq == self.seq {
            let to = self.copied_up_to(held, head_seq, max_bytes);
            return self.copy(to, sink, max_bytes);
        }
        fence(Acquire);
        if self.ring.load(layout::TAIL_SEQ, Relaxed) > self.seq {
            sink.undo_to(mark);
            return None;
        }
        let read = Read::Data { chunks: (seq - self.seq) as usize, bytes: (offset - self.offset) as usize };
        (self.seq, self.offset) = (seq, offset);
        if self.until != Until::CaughtUp {
            self.ahead = Ahead { seq, place: offset % capacity, until: head_seq };
        }
        Some(read)
    }

    /// The next chunk, if it is held and was there when the counters were looked at last: a chunk that is held is whole,
    /// so nothing needs to be looked at again, neither before nor afterwards.
    #[inline]
    pub(crate) fn next_held(&mut self) -> Option<Bytes> {
        let Ahead { seq, place, until } = self.ahead;
        if seq != self.seq || seq >= until || self.ring.status().removed() {
            return None;
        }
        let chunk = self.ring.held.as_deref()?.get(seq, place)?;
        let (len, capacity) = (chunk.len() as u64, self.ring.layout.capacity());
        let after = place + len;
        self.ahead.place = if after >= capacity { after - capacity } else { after };
        self.ahead.seq += 1;
        (self.seq, self.offset) = (seq + 1, self.offset + len);
        Some(chunk)
    }

    /// The first chunk after the next that may be held, among those that can be copied at once.
    fn copied_up_to(&self, held: &Held, head_seq: u64, max_bytes: usize) -> u64 {
        let mut seq = self.seq + 1;
        while seq < head_seq {
            let (start, end) = (self.ring.start_of(seq), self.ring.start_of(seq + 1));
            let len = end.saturating_sub(start);
            if end.saturating_sub(self.offset) > max_bytes as u64
                || len >= GRAIN as u64 && held.get(seq, start % self.ring.layout.capacity()).is_some()
            {
                break;
            }
            seq += 1;
        }
        seq
    }
}
