//! Writing end of a ring. A ring has one writing end, under the stream's lock.

use bytes::Bytes;

use super::{Given, HazardSlot, Index, Layout, Ring, Shared, Source, held::Reclaimer, layout};
use crate::{
    read::Position,
    sync::{
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

/// The place of the next byte, while it is not worth computing.
const UNKNOWN: u64 = u64::MAX;

/// The tail of a ring after an append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// The oldest chunk that is left.
    pub(crate) seq: u64,
    entry: usize,
    offset: u64,
}

/// Appends to a ring, and finds positions in what the ring holds.
#[derive(Debug)]
pub(crate) struct RingWriter {
    ring: Ring,
    tail_seq: u64,
    tail: u64,
    head_seq: u64,
    head: u64,
    /// The index that has the entries now.
    index: Index,
    /// The entries of the tail's chunk and of the next chunk, and the place of the next byte in the
    /// data. Kept here because computing them takes a division, which would take longer than all
    /// the rest of a small append.
    tail_entry: usize,
    head_entry: usize,
    place: u64,
    /// Reclaims the chunks that the ring holds by reference.
    reclaimer: Option<Reclaimer>,
}

impl RingWriter {
    /// A writer for an empty ring that has no other writer.
    pub(crate) fn new(ring: Ring) -> Self {
        let reclaimer = ring.holds().then(|| Reclaimer::new(ring.layout()));
        let index = ring.index();
        Self {
            ring,
            tail_seq: 0,
            tail: 0,
            head_seq: 0,
            head: 0,
            index,
            tail_entry: 0,
            head_entry: 0,
            place: 0,
            reclaimer,
        }
    }

    /// A writer for a ring that gets [copies](Self::follow) of another ring's chunks, from position
    /// `at` on.
    pub(crate) fn from(ring: Ring, at: Position) -> Self {
        let mut writer = Self::new(ring);
        writer.begin(at);
        writer
    }

    /// A writer for an empty ring that no reader has yet, of a stream that skips to position `at`.
    #[cfg(feature = "host")]
    pub(crate) fn skipping_to(ring: Ring, at: Position) -> Self {
        ring.word(layout::BEGIN_SEQ).store(at.seq, Relaxed);
        Self::from(ring, at)
    }

    /// Empties the ring, and goes on from position `at`.
    fn begin(&mut self, at: Position) {
        let entry = self.index.entry_of(at.seq);
        (self.tail_seq, self.tail, self.tail_entry) = (at.seq, at.offset, entry);
        (self.head_seq, self.head, self.head_entry) = (at.seq, at.offset, entry);
        self.place = UNKNOWN;
        let words = self.ring.words();
        words[self.index.start_at(entry)].store(at.offset, Relaxed);
        words[layout::TAIL_SEQ].store(at.seq, Release);
        words[layout::HEAD_SEQ].store(at.seq, Release);
    }

    /// A writer for a ring that another writer has filled with what is between these positions.
    pub(crate) fn going_on(ring: Ring, tail: Position, head: Position) -> Self {
        let mut writer = Self::new(ring);
        writer.set(tail, head);
        writer
    }

    /// Sets tail and head, whatever is in the ring.
    pub(super) fn set(&mut self, tail: Position, head: Position) {
        (self.tail_seq, self.tail, self.tail_entry) =
            (tail.seq, tail.offset, self.index.entry_of(tail.seq));
        (self.head_seq, self.head, self.head_entry) =
            (head.seq, head.offset, self.index.entry_of(head.seq));
        self.place = UNKNOWN;
    }

    /// Copies the next chunks that another writer's ring holds, up to about `bytes` and `chunks`.
    /// Returns whether everything is copied. No reader reads this ring before that.
    pub(crate) fn follow(&mut self, other: &Self, newest: u64, bytes: u64, chunks: u64) -> bool {
        let tail = other.tail();
        if self.head_seq < tail.seq {
            self.begin(tail);
        } else if self.tail_seq < tail.seq {
            let entry = self.index.entry_of(tail.seq);
            (self.tail_seq, self.tail, self.tail_entry) = (tail.seq, tail.offset, entry);
            self.ring.word(layout::TAIL_SEQ).store(tail.seq, Release);
        }
        let (last, most) = (self.head_seq.saturating_add(chunks), self.head.saturating_add(bytes));
        let mut time = self.newest_time();
        while self.head_seq < other.head_seq.min(last) && self.head < most {
            let end = other.start_of(self.head_seq + 1);
            // Times only rise, whatever the holder of a lease wrote.
            time = other.time_of(self.head_seq).max(time).min(newest);
            // The holder of a lease may have corrupted any entry; then the rest of the history is
            // dropped. Each later chunk has at least one byte.
            let rest = other.head_seq - self.head_seq - 1;
            let len = end.checked_sub(self.head).filter(|len| *len > 0);
            let Some(len) =
                len.filter(|_| end.checked_add(rest).is_some_and(|end| end <= other.head))
            else {
                self.begin(other.head());
                break;
            };
            let at = self.head % other.layout().capacity();
            let chunk = Shared { words: other.ring.data(), at: at as usize, len: len as usize };
            self.write(&chunk);
            self.advance_place(chunk.len);
            self.advance_head(chunk.len, time);
        }
        // A holder whose lease has ended may have announced one more append, and may be writing it.
        // Drop the chunks which that append overwrites from the copy.
        fence(Acquire);
        let announced = other.ring.load(layout::TAIL_SEQ, Relaxed).min(self.head_seq);
        if announced > self.tail_seq {
            (self.tail_seq, self.tail) = (announced, self.start_of(announced));
            self.tail_entry = self.index.entry_of(announced);
            self.ring.word(layout::TAIL_SEQ).store(announced, Release);
        }
        self.ring.word(layout::HEAD_SEQ).store(self.head_seq, Release);
        self.head_seq == other.head_seq
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
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

    pub(crate) fn position(&self, seq: u64) -> Position {
        Position { seq, offset: self.start_of(seq) }
    }

    pub(super) fn start_of(&self, seq: u64) -> u64 {
        self.ring.load(self.index.start_of(seq), Relaxed)
    }

    /// Bytes from the start of chunk `seq` to head.
    fn bytes_from(&self, seq: u64) -> u64 {
        self.head.saturating_sub(self.start_of(seq))
    }

    /// The oldest chunk that would still be readable after appending a good part (a quarter) of the
    /// ring; head if none would.
    pub(crate) fn tail_after_much(&self) -> u64 {
        let (bytes, chunks) = (self.layout().capacity(), self.layout().max_chunks());
        let (bytes, chunks) = (bytes - bytes / 4, chunks - chunks / 4);
        self.first(|seq| self.bytes_from(seq) <= bytes && self.head_seq - seq <= chunks).seq
    }

    /// The oldest chunk that would stay readable after an append of `count` chunks with `len` bytes
    /// in total.
    ///
    /// Walks over the chunks that the append overwrites. Each chunk is overwritten once, so this
    /// costs amortized O(1) per chunk.
    #[inline]
    pub(crate) fn tail_after(&self, len: u64, count: usize) -> Tail {
        let (capacity, most) = (self.layout().capacity(), self.layout().max_chunks());
        let (head, next) = (self.head + len, self.head_seq + count as u64);
        let (mut seq, mut entry, mut start) = (self.tail_seq, self.tail_entry, self.tail);
        while seq < self.head_seq && (head.wrapping_sub(start) > capacity || next - seq > most) {
            (seq, entry) = (seq + 1, self.index.entry_after(entry));
            start = self.ring.load(self.index.start_at(entry), Relaxed);
        }
        Tail { seq, entry, offset: start }
    }

    /// Appends a chunk of at least 1 byte and at most the capacity, and publishes it. `tail` is the
    /// [`tail_after`](Self::tail_after) of this chunk; `time` is in microseconds since the Unix
    /// epoch. Reclaimed references are added to `gone`, to be dropped after the lock is released:
    /// dropping them may run any foreign code.
    ///
    /// Inlined into its callers, together with what it calls: for a small chunk, the calls are a
    /// sixth of all instructions.
    #[inline(always)]
    pub(crate) fn append(
        &mut self,
        chunk: &impl Source,
        tail: Tail,
        time: u64,
        gone: &mut Vec<Bytes>,
    ) {
        self.advance_tail(tail, gone);
        self.make_entry();
        self.write_chunk(chunk, time);
        self.ring.word(layout::HEAD_SEQ).store(self.head_seq, Release);
    }

    /// Does all of an append except publishing, in a ring that holds no chunk by reference.
    #[inline(always)]
    pub(super) fn fill(&mut self, chunk: &impl Source, tail: Tail, time: u64) {
        self.advance_tail(tail, &mut Vec::new());
        self.write_chunk(chunk, time);
    }

    /// Advances tail for an append whose bytes come from elsewhere: the first step of that append.
    pub(super) fn announce(&mut self, tail: Tail) {
        self.advance_tail(tail, &mut Vec::new());
    }

    /// Counts a chunk whose bytes are already in place.
    pub(super) fn count_written(&mut self, size: usize, time: u64) {
        self.place = UNKNOWN;
        self.advance_head(size, time);
    }

    #[inline(always)]
    fn write_chunk(&mut self, chunk: &impl Source, time: u64) {
        self.write(chunk);
        self.advance_place(chunk.size());
        self.advance_head(chunk.size(), time);
    }

    /// Appends and publishes one chunk. Holds the chunk by reference if possible, else copies it.
    #[inline(always)]
    pub(crate) fn append_held(
        &mut self,
        chunk: Bytes,
        tail: Tail,
        time: u64,
        gone: &mut Vec<Bytes>,
    ) {
        self.advance_tail(tail, gone);
        self.make_entry();
        let size = chunk.len();
        let refused = match &mut self.reclaimer {
            Some(reclaimer) => reclaimer.put(self.head_seq, chunk),
            None => Some(chunk),
        };
        if let Some(chunk) = refused {
            self.append_copy(chunk, gone);
        }
        self.place = UNKNOWN;
        self.advance_head(size, time);
        self.ring.word(layout::HEAD_SEQ).store(self.head_seq, Release);
    }

    /// Copies a chunk that there is no room to hold.
    #[cold]
    fn append_copy(&mut self, chunk: Bytes, gone: &mut Vec<Bytes>) {
        self.write(&Given::new(&chunk));
        gone.push(chunk);
    }

    /// Advances tail, and reclaims what it passes: the first step of an append.
    #[inline(always)]
    fn advance_tail(&mut self, tail: Tail, gone: &mut Vec<Bytes>) {
        let Tail { seq, entry, offset } = tail;
        if seq <= self.tail_seq {
            return;
        }
        // Release, so that a thread that sees this tail also sees a head that is not behind it.
        self.ring.word(layout::TAIL_SEQ).store(seq, Release);
        fence(Release);
        (self.tail_seq, self.tail_entry, self.tail) = (seq, entry, offset);
        if let Some(reclaimer) = &mut self.reclaimer {
            reclaimer.retire(Position { seq, offset }, gone);
        }
    }

    /// Ensures that one more chunk has an entry.
    #[inline(always)]
    fn make_entry(&mut self) {
        if self.head_seq + 1 - self.tail_seq > self.index.max_chunks() {
            self.grow();
        }
    }

    /// Moves from the first index to the full-size index.
    #[cold]
    fn grow(&mut self) {
        let (from, to, words) = (self.index, self.layout().index(), self.ring.words());
        for seq in self.tail_seq..=self.head_seq {
            for (from, to) in
                [(from.start_of(seq), to.start_of(seq)), (from.time_of(seq), to.time_of(seq))]
            {
                words[to].store(words[from].load(Relaxed), Relaxed);
            }
        }
        words[layout::GROWN].store(1, Release);
        self.index = to;
        (self.tail_entry, self.head_entry) =
            (to.entry_of(self.tail_seq), to.entry_of(self.head_seq));
    }

    /// Writes the bytes of a chunk after head.
    #[inline(always)]
    fn write(&mut self, chunk: &impl Source) {
        if self.place == UNKNOWN {
            self.place = self.head % self.layout().capacity();
        }
        let (data, place) = (self.ring.data(), self.place as usize);
        let first = chunk.size().min(self.layout().capacity() as usize - place);
        chunk.write(0, first, data, place);
        if first < chunk.size() {
            chunk.write(first, chunk.size() - first, data, 0);
        }
    }

    /// Moves the place of the next byte behind a chunk that was written.
    #[inline(always)]
    fn advance_place(&mut self, size: usize) {
        let (after, capacity) = (self.place + size as u64, self.layout().capacity());
        self.place = if after >= capacity { after - capacity } else { after };
    }

    /// Counts a chunk that was written or is held, and fills in its entry.
    #[inline(always)]
    fn advance_head(&mut self, size: usize, time: u64) {
        let words = self.ring.words();
        self.head += size as u64;
        self.head_seq += 1;
        // The entry of this chunk already holds the chunk's start. The entry after it gets head.
        let entry = self.head_entry;
        self.head_entry = self.index.entry_after(entry);
        words[self.index.time_at(entry)].store(time, Relaxed);
        words[self.index.start_at(self.head_entry)].store(self.head, Relaxed);
    }

    /// A hazard slot for a reader that starts at chunk `seq`, if the ring holds chunks by reference
    /// at all.
    pub(crate) fn hazard(&mut self, seq: u64) -> Option<HazardSlot> {
        self.reclaimer.as_mut().map(|reclaimer| reclaimer.hazard(seq))
    }

    /// The oldest chunk that starts within `bytes` of head; head if there is none.
    pub(crate) fn oldest_within(&self, bytes: u64) -> Position {
        self.first(|seq| self.bytes_from(seq) <= bytes)
    }

    /// The oldest chunk that fits into a ring of this layout together with all chunks after it and
    /// with `bytes` and `chunks` more; head if there is none.
    pub(crate) fn oldest_with_room(&self, layout: Layout, bytes: u64, chunks: u64) -> Position {
        let has_room = |at: Position| {
            let all = self.head.saturating_sub(at.offset).saturating_add(bytes);
            layout.has_room(all, self.head_seq - at.seq + chunks)
        };
        let at = self.start_if_possible(self.first(|seq| has_room(self.position(seq))).seq);
        // The holder of a lease may have corrupted the entries that were looked at.
        if has_room(at) { at } else { self.head() }
    }

    /// The oldest chunk that was appended at `time` or later; head if there is none.
    pub(crate) fn oldest_since(&self, time: u64) -> Position {
        self.first(|seq| self.time_of(seq) >= time)
    }

    /// The chunk with the byte at `offset`, which is from tail to head.
    pub(crate) fn chunk_at(&self, offset: u64) -> Position {
        let after = self.first(|seq| self.start_of(seq) > offset);
        if after.offset > offset { self.position(after.seq.saturating_sub(1)) } else { after }
    }

    /// Bytes appended since `time`, and the time from which they count: later than `time` if the
    /// ring does not reach back that far.
    pub(crate) fn appended_since(&self, time: u64) -> (u64, u64) {
        let first = self.oldest_since(time);
        let reaches_back = first.seq > self.tail_seq || self.tail_seq == 0;
        let from = if reaches_back { time } else { self.time_of(first.seq) };
        (self.head.saturating_sub(first.offset), from)
    }

    /// When the newest chunk in the ring was appended; 0 if the ring holds no chunk.
    fn newest_time(&self) -> u64 {
        if self.head_seq > self.tail_seq { self.time_of(self.head_seq - 1) } else { 0 }
    }

    /// When a chunk in the ring was appended, in microseconds since the Unix epoch.
    pub(crate) fn time_of(&self, seq: u64) -> u64 {
        self.ring.load(self.index.time_of(seq), Relaxed)
    }

    /// Binary search: the first chunk in the ring for which `wanted` holds, if `wanted` holds for
    /// all chunks after it; head if there is none.
    fn first(&self, wanted: impl Fn(u64) -> bool) -> Position {
        let (mut low, mut high) = (self.tail_seq, self.head_seq);
        while low < high {
            let middle = low + (high - low) / 2;
            if wanted(middle) { high = middle } else { low = middle + 1 }
        }
        self.position(low)
    }
}
