//! The one writing end of a ring; lives under the stream's lock.

use super::{Layout, Position, Ring, Source, layout};
use crate::sync::{
    Ordering::{Relaxed, Release},
    fence,
};

/// Appends to a ring, and finds places in what it holds.
#[derive(Debug)]
pub(crate) struct RingWriter {
    ring: Ring,
    tail_seq: u64,
    head_seq: u64,
    head: u64,
}

impl RingWriter {
    /// For a ring that nothing has been appended to.
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring, tail_seq: 0, head_seq: 0, head: 0 }
    }

    fn layout(&self) -> Layout {
        self.ring.layout
    }

    pub(crate) fn head(&self) -> Position {
        Position { seq: self.head_seq, offset: self.head }
    }

    pub(crate) fn tail(&self) -> Position {
        self.position(self.tail_seq)
    }

    fn position(&self, seq: u64) -> Position {
        Position { seq, offset: self.ring.start_of(seq) }
    }

    /// The oldest chunk that an append of `chunks` chunks with `len` bytes together, at most the capacity, would leave
    /// readable.
    ///
    /// Walks over the chunks that go; each chunk goes once, so this costs O(1) a chunk in the long run.
    pub(crate) fn tail_after(&self, len: usize, chunks: u64) -> u64 {
        let head = self.head + len as u64;
        let mut tail = self.tail_seq;
        while tail < self.head_seq
            && (head - self.ring.start_of(tail) > self.layout().capacity()
                || self.head_seq + chunks - tail > self.layout().max_chunks())
        {
            tail += 1;
        }
        tail
    }

    /// Appends a chunk of 1 byte to the capacity. `tail` is [`tail_after`](Self::tail_after) its length;
    /// `time` is in microseconds since the Unix epoch.
    pub(crate) fn append(&mut self, chunk: &impl Source, tail: u64, time: u64) {
        if tail > self.tail_seq {
            self.tail_seq = tail;
            // Release, so that who sees this tail also sees a head that is not behind it.
            self.ring.word(layout::TAIL_SEQ).store(tail, Release);
            fence(Release);
        }
        let mut done = 0;
        for (place, len) in self.ring.runs(self.head, chunk.size()) {
            chunk.write(done, len, self.ring.data(), place);
            done += len;
        }
        self.ring.word(self.layout().time_of(self.head_seq)).store(time, Relaxed);
        self.head += chunk.size() as u64;
        self.head_seq += 1;
        self.ring.word(self.layout().start_of(self.head_seq)).store(self.head, Relaxed);
        self.ring.word(layout::HEAD_SEQ).store(self.head_seq, Release);
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
