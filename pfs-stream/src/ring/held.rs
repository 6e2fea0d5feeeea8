//! Large chunks that a ring of one process holds by reference, so that neither side copies them.
//!
//! Where such a chunk would lie in the ring's data, nothing lies; the bytes are in a cell of a table beside it. All else is
//! as ever: index, head and tail say what can be read, and a reader that takes a reference looks at the tail again
//! afterwards. A cell is a lock that is held for as long as it takes to count a reference.
//!
//! There is a cell for each [`GRAIN`] of the data. A chunk of that size or more has the cell of the grain that it starts in
//! to itself, for the next one starts in another.

use bytes::Bytes;
use pfs_proto::Until;

use super::{Layout, Ring, RingReader, layout};
use crate::{
    Sink,
    reader::Read,
    sync::{
        AtomicUsize, Mutex,
        Ordering::{Acquire, Relaxed},
        fence, lock,
    },
};

/// Chunks of so many bytes and more are held.
pub(crate) const GRAIN: usize = 4096;

/// A chunk that is held, and which one it is.
type Cell = Mutex<Option<(u64, Bytes)>>;

/// The large chunks that a ring holds.
#[derive(Debug)]
pub(crate) struct Held {
    cells: Box<[Cell]>,
    capacity: u64,
    /// Cells that are taken.
    count: AtomicUsize,
}

impl Held {
    pub(crate) fn new(layout: Layout) -> Self {
        let cells = layout.capacity().div_ceil(GRAIN as u64);
        Self {
            cells: (0..cells).map(|_| Mutex::new(None)).collect(),
            capacity: layout.capacity(),
            count: AtomicUsize::new(0),
        }
    }

    fn cell(&self, start: u64) -> &Cell {
        &self.cells[(start % self.capacity) as usize / GRAIN]
    }

    /// Holds chunk `seq`, which starts at offset `start`. Before it is published; after the tail has passed what was there.
    pub(super) fn put(&self, seq: u64, start: u64, chunk: Bytes) {
        *lock(self.cell(start)) = Some((seq, chunk));
        self.count.fetch_add(1, Relaxed);
    }

    /// Lets go of chunk `seq`, if it is held. After the tail has passed it.
    pub(super) fn forget(&self, seq: u64, start: u64) -> Option<Bytes> {
        let mut cell = lock(self.cell(start));
        let (_, chunk) = cell.take_if(|(held, _)| *held == seq)?;
        self.count.fetch_sub(1, Relaxed);
        Some(chunk)
    }

    fn get(&self, seq: u64, start: u64) -> Option<Bytes> {
        let cell = lock(self.cell(start));
        cell.as_ref().filter(|(held, _)| *held == seq).map(|(_, chunk)| chunk.clone())
    }

    /// Whether it holds nothing. Asked after a head was seen, it knows of every chunk before that.
    fn is_empty(&self) -> bool {
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
        while seq < head_seq {
            let (start, end) = (self.ring.start_of(seq), self.ring.start_of(seq + 1));
            if seq > self.seq && end.saturating_sub(self.offset) > max_bytes as u64
                || self.until == Until::CaughtUp && offset >= self.head_at_attach
            {
                break;
            }
            let Some(chunk) = held.get(seq, start) else { break };
            // A reader may start inside a chunk. What does not fit together is being overwritten, which will be seen.
            let skip = offset.saturating_sub(start) as usize;
            if chunk.len() as u64 != end.saturating_sub(start) || skip >= chunk.len() {
                break;
            }
            if skip == 0 {
                sink.hold(&chunk)
            } else {
                sink.hold(&chunk.slice(skip..))
            }
            (seq, offset) = (seq + 1, end);
        }
        if seq == self.seq {
            let to = self.next_held(held, head_seq, max_bytes);
            return self.copy(to, sink, max_bytes);
        }
        fence(Acquire);
        if self.ring.load(layout::TAIL_SEQ, Relaxed) > self.seq {
            sink.undo_to(mark);
            return None;
        }
        let read = Read::Data { chunks: (seq - self.seq) as usize, bytes: (offset - self.offset) as usize };
        (self.seq, self.offset) = (seq, offset);
        Some(read)
    }

    /// The first chunk after the next that may be held, among those that can be copied at once.
    fn next_held(&self, held: &Held, head_seq: u64, max_bytes: usize) -> u64 {
        let mut seq = self.seq + 1;
        while seq < head_seq {
            let (start, end) = (self.ring.start_of(seq), self.ring.start_of(seq + 1));
            let len = end.saturating_sub(start);
            if end.saturating_sub(self.offset) > max_bytes as u64
                || len >= GRAIN as u64 && held.get(seq, start).is_some()
            {
                break;
            }
            seq += 1;
        }
        seq
    }
}
