//! The one writing end of a ring; lives under the stream's lock.

use bytes::Bytes;

use super::{GRAIN, Held, Layout, Position, Ring, Source, layout};
use crate::sync::{
    Ordering::{Relaxed, Release},
    fence,
};

/// Appends to a ring, and finds places in what it holds.
#[derive(Debug)]
pub(crate) struct RingWriter {
    ring: Ring,
    tail_seq: u64,
    tail: u64,
    head_seq: u64,
    head: u64,
    /// The entries of the tail's chunk and of the next one, and the place of the next byte in the data: what division would
    /// tell, which takes longer than all the rest of a small append.
    tail_entry: usize,
    head_entry: usize,
    place: u64,
    /// Chunks that were held and have gone, for whoever can drop them without a lock.
    gone: Vec<Bytes>,
}

impl RingWriter {
    /// For a ring that nothing has been appended to.
    pub(crate) fn new(ring: Ring) -> Self {
        Self {
            ring,
            tail_seq: 0,
            tail: 0,
            head_seq: 0,
            head: 0,
            tail_entry: 0,
            head_entry: 0,
            place: 0,
            gone: Vec::new(),
        }
    }

    fn layout(&self) -> Layout {
        self.ring.layout
    }

    pub(crate) fn head(&self) -> Position {
        Position { seq: self.head_seq, offset: self.head }
    }

    pub(crate) fn tail(&self) -> Position {
        Position { seq: self.tail_seq, offset: self.tail }
    }

    fn position(&self, seq: u64) -> Position {
        Position { seq, offset: self.ring.start_of(seq) }
    }

    /// The oldest chunk that would still be readable after a good part of the ring were appended; head if none would.
    pub(crate) fn tail_after_much(&self) -> u64 {
        let (bytes, chunks) = (self.layout().capacity(), self.layout().max_chunks());
        let (bytes, chunks) = (bytes - bytes / 4, chunks - chunks / 4);
        self.first(|seq| self.head - self.ring.start_of(seq) <= bytes && self.head_seq - seq <= chunks).seq
    }

    /// The oldest chunk that an append of so many chunks, `len` bytes together, would leave readable.
    ///
    /// Walks over the chunks that go; each chunk goes once, so this costs O(1) a chunk in the long run.
    #[inline]
    pub(crate) fn tail_after(&self, len: u64, count: usize) -> u64 {
        let (capacity, most) = (self.layout().capacity(), self.layout().max_chunks());
        let (head, next) = (self.head + len, self.head_seq + count as u64);
        let (mut seq, mut entry, mut start) = (self.tail_seq, self.tail_entry, self.tail);
        while seq < self.head_seq && (head - start > capacity || next - seq > most) {
            (seq, entry) = (seq + 1, self.ring.entry_after(entry, 1));
            start = self.ring.start_at(entry);
        }
        seq
    }

    /// Appends chunks of at least 1 byte, no more than the capacity together, and publishes them at once. `tail` is
    /// [`tail_after`](Self::tail_after) them; `time` is in microseconds since the Unix epoch.
    pub(crate) fn append(&mut self, chunks: &[impl Source], tail: u64, time: u64) {
        if tail > self.tail_seq {
            // Release, so that who sees this tail also sees a head that is not behind it.
            self.ring.word(layout::TAIL_SEQ).store(tail, Release);
            fence(Release);
            if let Some(held) = self.ring.held.as_deref().filter(|held| !held.is_empty()) {
                let first = chunks.first().filter(|chunk| chunk.size() >= GRAIN);
                let replaces = first.is_some_and(|chunk| chunk.bytes().is_some());
                let (mut entry, mut start) = (self.tail_entry, self.tail);
                for seq in self.tail_seq..tail {
                    let back = self.head - start;
                    let place =
                        self.place + if back > self.place { self.layout().capacity() } else { 0 } - back;
                    // Where the next chunk comes in its place, that is when it goes: one lock less.
                    if !(replaces && Held::is_same(place, self.place)) {
                        self.gone.extend(held.forget(seq, place));
                    }
                    entry = self.ring.entry_after(entry, 1);
                    start = self.ring.start_at(entry);
                }
            }
            self.tail_entry = self.ring.entry_after(self.tail_entry, tail - self.tail_seq);
            self.tail_seq = tail;
            self.tail = self.ring.start_at(self.tail_entry);
        }
        let (data, capacity) = (self.ring.data(), self.layout().capacity());
        // The entry of the first chunk says already where it starts; that after the last one is told where head is.
        for chunk in chunks {
            let size = chunk.size();
            let first = size.min((capacity - self.place) as usize);
            let after = self.place + size as u64;
            let held = self.ring.held.as_deref().filter(|_| size >= GRAIN);
            match (held, chunk.bytes()) {
                (Some(held), Some(bytes)) => {
                    held.put(self.head_seq, self.place, bytes, &mut self.gone);
                }
                _ => {
                    chunk.write(0, first, data, self.place as usize);
                    if after >= capacity {
                        chunk.write(first, size - first, data, 0);
                    }
                }
            }
            self.place = if after >= capacity { after - capacity } else { after };
            self.head += size as u64;
            self.head_seq += 1;
            let [_start, when] = self.ring.entry(self.head_entry);
            when.store(time, Relaxed);
            self.head_entry = self.ring.entry_after(self.head_entry, 1);
            let [start, _time] = self.ring.entry(self.head_entry);
            start.store(self.head, Relaxed);
        }
        self.ring.word(layout::HEAD_SEQ).store(self.head_seq, Release);
    }

    /// Chunks that were held and have gone, in exchange for an empty vector. They are to be dropped when the lock is not held:
    /// whose they were may do anything then.
    pub(crate) fn gone(&mut self, to: &mut Vec<Bytes>) {
        std::mem::swap(&mut self.gone, to);
    }

    /// The oldest chunk that starts within `bytes` of head; head if there is none.
    pub(crate) fn oldest_within(&self, bytes: u64) -> Position {
        self.first(|seq| self.head - self.ring.start_of(seq) <= bytes)
    }

    /// The oldest chunk that was appended at `time` or later; head if there is none.
    pub(crate) fn oldest_since(&self, time: u64) -> Position {
        self.first(|seq| self.time_of(seq) >= time)
    }

    /// The chunk that holds the byte at `offset`, which is from tail to head.
    pub(crate) fn chunk_at(&self, offset: u64) -> Position {
        let after = self.first(|seq| self.ring.start_of(seq) > offset);
        if after.offset > offset { self.position(after.seq - 1) } else { after }
    }

    /// Bytes appended since `time`, and the time from when they count: later than `time` where the
    /// ring does not reach back that far.
    pub(crate) fn appended_since(&self, time: u64) -> (u64, u64) {
        let first = self.oldest_since(time);
        let reaches_back = first.seq > self.tail_seq || self.tail_seq == 0;
        let from = if reaches_back { time } else { self.time_of(first.seq) };
        (self.head - first.offset, from)
    }

    fn time_of(&self, seq: u64) -> u64 {
        self.ring.load(self.layout().time_of(seq), Relaxed)
    }

    /// The first chunk in the ring for which `wanted` holds, where it holds for all after it; else head.
    fn first(&self, wanted: impl Fn(u64) -> bool) -> Position {
        let (mut low, mut high) = (self.tail_seq, self.head_seq);
        while low < high {
            let middle = low + (high - low) / 2;
            if wanted(middle) { high = middle } else { low = middle + 1 }
        }
        self.position(low)
    }
}
