//! Reading end of a ring: takes no lock, copies, then checks.
//!
//! The reader trusts no word of the ring, because a process that may write the ring may have
//! written anything. Each word is loaded once. Words that contradict each other although tail has
//! not moved are a [`Violation`]. Whatever the words are, a read takes a bounded number of steps
//! and touches no byte outside the ring.

use pfs_proto::{End, SlowPolicy, Until};

use super::{HazardSlot, Ring, Violation, layout, memory};
use crate::{
    error::ReadError,
    read::{Most, Position, Read},
    sink::Sink,
    sync::{
        AtomicU64,
        Ordering::{Acquire, Relaxed},
        fence,
    },
};

/// The most chunks that are copied at a time.
pub(super) const RUN: usize = if cfg!(loom) { 2 } else { 128 };

/// The most attempts of a read before it gives up because the writer overtook it each time. The
/// caller must then look again later, as if there were nothing to read yet. The caller misses no
/// wake-up: the writer is in the middle of appending.
const MAX_ATTEMPTS: usize = if cfg!(loom) { 4 } else { 64 };

/// No stream ever reaches this chunk or this offset.
pub(crate) const LIMIT: u64 = 1 << 62;

/// Parts of chunks, except the first of each, begin at multiples of this many bytes.
const PAGE: u64 = 4096;

/// Reads a ring from a position on. The same code serves every reader, in any process.
#[derive(Debug)]
pub(crate) struct RingReader {
    pub(crate) ring: Ring,
    /// The next chunk to read.
    pub(crate) seq: u64,
    /// The next byte to read. Usually the start of chunk `seq`; inside that chunk for a reader that
    /// was told to start there; before that chunk if `missing` is set.
    pub(crate) offset: u64,
    /// While a chunk is read in parts: where its first part began.
    pub(crate) begun: Option<u64>,
    /// The end of a gap still to be reported, for a reader that started below tail.
    pub(crate) missing: Option<u64>,
    pub(crate) policy: SlowPolicy,
    pub(crate) until: Until,
    /// Head when the reader attached; the end for [`Until::CaughtUp`].
    pub(crate) head_at_attach: u64,
    /// The number of writer deaths before the writers whose end this reader sees.
    pub(crate) deaths_before: u64,
    /// How far the reader may lag once it has been live.
    pub(crate) channel_buffer_size: u64,
    /// Whether the reader has reached the live edge once.
    pub(crate) live: bool,
    /// Where the reader announces the chunks that it takes, if the ring holds chunks by reference.
    pub(crate) hazard: Option<HazardSlot>,
}

/// Result of a look at the ring's counters.
pub(super) enum Look {
    /// The reader is at head.
    CaughtUp,
    /// The writer overtook every attempt.
    Unsettled,
    /// Chunks before this one can be read, until the writer overwrites them.
    Chunks(u64),
    /// The next chunk to read is gone, or lags too far; `next` is the chunk that replaces it.
    Behind { next: Position, head: u64 },
}

impl RingReader {
    pub(crate) fn position(&self) -> Position {
        Position { seq: self.seq, offset: self.offset }
    }

    /// The position without the parts of a chunk that was read incompletely: those parts may still
    /// become part of a gap.
    pub(crate) fn settled(&self) -> Position {
        Position { seq: self.seq, offset: self.begun.unwrap_or(self.offset) }
    }

    pub(super) fn advance(&mut self, to: Position) {
        (self.seq, self.offset, self.begun) = (to.seq, to.offset, None);
    }

    /// Goes back to where the first part of the chunk began, if the chunk is read in parts.
    fn restart_chunk(&mut self) {
        self.advance(self.settled());
    }

    /// Reads what comes next, if there is anything: whole chunks of about `most` bytes, at least
    /// one chunk, or a part of one.
    pub(crate) fn try_read(
        &mut self,
        sink: &mut impl Sink,
        most: Most,
    ) -> Result<Option<Read>, ReadError> {
        // Load the status first: if the status says that nothing more comes, the head that is
        // loaded afterwards is final.
        let status = self.ring.status();
        if status.removed() {
            self.restart_chunk();
            return Err(ReadError::Removed);
        }
        if let Some(to) = self.missing.take() {
            // The number of lost chunks is no longer known.
            let gap = Read::Gap { from: self.offset, to, chunks: 0 };
            self.offset = to;
            return Ok(Some(gap));
        }
        if self.until == Until::CaughtUp && self.offset >= self.head_at_attach {
            return Ok(Some(Read::End(End::CaughtUp)));
        }
        for _ in 0..MAX_ATTEMPTS {
            match self.look().map_err(|violation| self.corrupt(violation))? {
                // Whatever comes next, also an end, is in another ring.
                Look::CaughtUp if status.moved() => return Ok(None),
                Look::CaughtUp => {
                    self.live = true;
                    return Ok(status.end_at_head(self.until, self.deaths_before).map(Read::End));
                }
                Look::Unsettled => break,
                Look::Behind { next, head } => {
                    if self.ring.status().removed() {
                        // If the ring was released meanwhile, `look` did not see its real counters.
                        return Err(ReadError::Removed);
                    }
                    self.restart_chunk();
                    // A reader is not too slow for what the stream itself has skipped.
                    if self.policy == SlowPolicy::Disconnect && !self.is_before_begin() {
                        return Err(ReadError::TooSlow { lag: Some(head - self.offset) });
                    }
                    let gap = Read::Gap {
                        from: self.offset,
                        to: next.offset,
                        chunks: next.seq - self.seq,
                    };
                    self.advance(next);
                    return Ok(Some(gap));
                }
                Look::Chunks(head_seq) => {
                    let taken = self.take(head_seq, sink, most);
                    if let Some(read) = taken.map_err(|violation| self.corrupt(violation))? {
                        return Ok(Some(read));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The error of a reader that found `violation`.
    fn corrupt(&self, violation: Violation) -> ReadError {
        // The ring of a removed stream may have been released meanwhile.
        if self.ring.status().removed() {
            ReadError::Removed
        } else {
            ReadError::Corrupt(violation)
        }
    }

    pub(super) fn look(&self) -> Result<Look, Violation> {
        for _ in 0..MAX_ATTEMPTS {
            let tail = self.ring.load(layout::TAIL_SEQ, Acquire);
            let head = self.ring.head_seq();
            let oldest = tail.max(self.seq);
            if oldest == self.seq && self.seq == head {
                return Ok(Look::CaughtUp);
            }
            if !(oldest..LIMIT).contains(&head) {
                return Err(Violation::Head);
            }
            let index = self.ring.index();
            let start_of = |seq| self.ring.load(index.start_of(seq), Relaxed);
            let head = Position { seq: head, offset: start_of(head) };
            let next = if self.lags(self.offset, head.offset) && !self.is_before_begin() {
                self.first_within_channel(oldest, head, start_of)
            } else {
                Position { seq: oldest, offset: start_of(oldest) }
            };
            fence(Acquire);
            // Every entry that was loaded belongs to `oldest` or a later chunk. Check that none of
            // these chunks was overwritten.
            if self.ring.load(layout::TAIL_SEQ, Relaxed) > oldest {
                continue;
            }
            if head.seq - oldest > self.ring.layout.max_chunks() {
                return Err(Violation::Chunks);
            }
            if next.seq == self.seq {
                self.check_run(self.position(), head)?;
                return Ok(Look::Chunks(head.seq));
            }
            self.check_run(next, head)?;
            let lost = next.offset.checked_sub(self.settled().offset).ok_or(Violation::Offset)?;
            if lost < next.seq - self.seq {
                return Err(Violation::Offset);
            }
            return Ok(Look::Behind { next, head: head.offset });
        }
        Ok(Look::Unsettled)
    }

    /// Checks that the bytes between `from` and `head` fit into the ring, and that no chunk in
    /// between is empty.
    fn check_run(&self, from: Position, head: Position) -> Result<(), Violation> {
        let bytes = head.offset.checked_sub(from.offset).filter(|_| head.offset < LIMIT);
        let is_possible =
            |bytes: &u64| (head.seq - from.seq..=self.ring.layout.capacity()).contains(bytes);
        bytes.filter(is_possible).map(|_| ()).ok_or(Violation::Offset)
    }

    /// Whether the reader is still to be told of what the stream skipped.
    fn is_before_begin(&self) -> bool {
        self.seq < self.ring.begin_seq()
    }

    /// Whether the reader has read all of a ring that the stream has left by skipping.
    pub(crate) fn has_to_skip(&self) -> bool {
        let status = self.ring.status();
        status.moved() && status.skipped() && self.ring.head_seq() == self.seq
    }

    /// Whether a reader at `offset` lags by more than it may.
    fn lags(&self, offset: u64, head: u64) -> bool {
        self.live
            && self.policy != SlowPolicy::Block
            && head.saturating_sub(offset) > self.channel_buffer_size
    }

    /// The oldest chunk from `low` on that does not lag. A chunk is never larger than the channel
    /// buffer, so the newest one always qualifies.
    fn first_within_channel(
        &self,
        mut low: u64,
        head: Position,
        start_of: impl Fn(u64) -> u64,
    ) -> Position {
        // The first chunk known not to lag.
        let mut first = head;
        while low < first.seq {
            let middle = low + (first.seq - low) / 2;
            let start = start_of(middle);
            if self.lags(start, head.offset) {
                low = middle + 1;
            } else {
                first = Position { seq: middle, offset: start };
            }
        }
        first
    }

    /// Copies chunks to the sink. `None`, and an unchanged sink, if the writer overtook the copy.
    pub(super) fn copy(
        &mut self,
        head_seq: u64,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Option<Read>, Violation> {
        if sink.takes_parts()
            && let Some(part) = self.part(max_bytes.saturating_sub(sink.header_len()).max(1))
        {
            return Ok(self.copy_part(part, sink));
        }
        let mark = sink.buffer().len();
        let mut at = self.position();
        let mut ends = [0; RUN];
        let mut headers = 0;
        loop {
            let room = max_bytes.saturating_sub(headers);
            let mut count = self.ends(at, head_seq, room, &mut ends);
            if sink.header_len() > 0 {
                count = self.with_headers(at, sink.header_len(), room, &ends[..count]);
                headers += count * sink.header_len();
            }
            let Some(&len) = ends[..count].last() else { break };
            if sink.joins() {
                sink.chunks(&ends[..count]);
                self.copy_bytes(at.offset, len, sink);
            } else {
                let mut start = 0;
                for (seq, &end) in (at.seq..).zip(&ends[..count]) {
                    self.note_time(seq, sink);
                    self.copy_chunk(at.offset + start as u64, end - start, sink);
                    start = end;
                }
            }
            at = Position { seq: at.seq + count as u64, offset: at.offset + len as u64 };
        }
        if self.is_overtaken() {
            sink.undo_to(mark);
            return Ok(None);
        }
        if at.seq == self.seq {
            return Err(Violation::Offset);
        }
        let read = Read::Data {
            chunks: (at.seq - self.seq) as usize,
            bytes: (at.offset - self.offset) as usize,
        };
        self.advance(at);
        Ok(Some(read))
    }

    /// Whether the writer overwrote, or announced that it will, anything that was copied.
    fn is_overtaken(&self) -> bool {
        fence(Acquire);
        self.ring.load(layout::TAIL_SEQ, Relaxed) > self.seq
    }

    /// If the chunk has more than `most` bytes left: the length of its next part, and how many
    /// bytes are left after that part.
    fn part(&self, most: usize) -> Option<(usize, u64)> {
        let end = self.ring.load(self.ring.index().start_of(self.seq + 1), Relaxed);
        let left = end.saturating_sub(self.offset);
        // A chunk larger than the ring has an entry that is being overwritten. The check after the
        // copy finds that.
        if left <= most as u64 || left > self.ring.layout.capacity() {
            return None;
        }
        // If possible, the next part begins at a page boundary: copies from there are faster than
        // from an unaligned byte.
        let beyond = (self.offset + most as u64) % PAGE;
        let len = most - if beyond < most as u64 { beyond as usize } else { 0 };
        Some((len, left - len as u64))
    }

    /// Copies a part of a chunk to the sink. `None`, and an unchanged sink, if the writer overtook
    /// the copy.
    fn copy_part(&mut self, (len, left): (usize, u64), sink: &mut impl Sink) -> Option<Read> {
        let mark = sink.buffer().len();
        self.note_time(self.seq, sink);
        sink.part(len, left);
        self.copy_bytes(self.offset, len, sink);
        if self.is_overtaken() {
            sink.undo_to(mark);
            return None;
        }
        self.begun = Some(self.settled().offset);
        self.offset += len as u64;
        Some(Read::Data { chunks: 0, bytes: len })
    }

    /// Copies at most `most` bytes that follow `offset` in the chunk that is read in parts. Does
    /// not move the reader.
    pub(crate) fn peek(&self, offset: u64, most: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        let from = self.begun.map(|_| self.offset).filter(|from| *from <= offset)?;
        let end = self.ring.load(self.ring.index().start_of(self.seq + 1), Relaxed);
        let is_possible =
            end.checked_sub(from).is_some_and(|left| left <= self.ring.layout.capacity());
        let len =
            if is_possible { (end.saturating_sub(offset)).min(most as u64) as usize } else { 0 };
        let mark = bytes.len();
        self.copy_bytes(offset, len, bytes);
        if !is_possible || self.is_overtaken() {
            bytes.truncate(mark);
            return None;
        }
        Some(len)
    }

    /// How many of the chunks that end at `ends`, counted from `at`, fit into `room` bytes from the
    /// reader's position on, with a header each. The first chunk of a read always fits.
    fn with_headers(&self, at: Position, header: usize, room: usize, ends: &[usize]) -> usize {
        let before = (at.offset - self.offset) as usize;
        let first = usize::from(at.seq == self.seq);
        let fits = |(index, end): (usize, &usize)| {
            index < first || before + end + (index + 1) * header <= room
        };
        ends.iter().enumerate().take_while(|chunk| fits(*chunk)).count()
    }

    /// Fills `ends` with the end of each chunk from `at` on, relative to `at`: as many chunks as
    /// this read is to copy and as `ends` has room for. Returns their number. Entries that are
    /// being overwritten may have any value, but the ends together never exceed the capacity.
    pub(super) fn ends(
        &self,
        at: Position,
        head_seq: u64,
        max_bytes: usize,
        ends: &mut [usize; RUN],
    ) -> usize {
        let most = self.offset.saturating_add(max_bytes as u64);
        let all = self.offset.saturating_add(self.ring.layout.capacity());
        let stop = if self.until == Until::CaughtUp { self.head_at_attach } else { u64::MAX };
        let mut offset = at.offset;
        let mut count = 0;
        let wanted = (RUN as u64).min(head_seq - at.seq);
        for run in self.ring.entries(at.seq + 1, wanted as usize) {
            let last = most.min(stop).min(all);
            if let Some(end) = all_ends(run, at.offset, offset, last, &mut ends[count..]) {
                (offset, count) = (end, count + run.len());
                continue;
            }
            for [end, _time] in run {
                let end = end.load(Relaxed);
                // The first chunk of a read may be larger than `max_bytes`.
                let fits = end <= most || at.seq + count as u64 == self.seq;
                // An offset that goes back or too far belongs to an entry that is being
                // overwritten. The check after the copy finds that.
                if !(fits && offset < stop && end > offset && end <= all) {
                    return count;
                }
                ends[count] = (end - at.offset) as usize;
                offset = end;
                count += 1;
            }
        }
        count
    }

    fn note_time(&self, seq: u64, sink: &mut impl Sink) {
        if sink.notes_times() {
            sink.appended_at(self.ring.load(self.ring.index().time_of(seq), Relaxed));
        }
    }

    fn copy_chunk(&self, offset: u64, len: usize, sink: &mut impl Sink) {
        let most = sink.max_piece().max(1);
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let piece = left.min(most);
            sink.piece(piece, piece == left);
            self.copy_bytes(offset, piece, sink);
            offset += piece as u64;
            left -= piece;
        }
    }

    fn copy_bytes(&self, offset: u64, len: usize, sink: &mut impl Sink) {
        for (place, run) in self.ring.runs(offset, len) {
            memory::read(self.ring.data(), place, run, sink.buffer());
        }
    }
}

/// Fills `ends` with the ends of all chunks of a run of entries, relative to `base`. Returns the
/// last end. `None` unless the ends rise, from `start` on and to at most `last`. Cheaper than a
/// decision about each entry.
fn all_ends(
    run: &[[AtomicU64; 2]],
    base: u64,
    start: u64,
    last: u64,
    ends: &mut [usize],
) -> Option<u64> {
    // This check alone usually shows that only some of the chunks fit.
    if run.last()?[0].load(Relaxed) > last {
        return None;
    }
    let (mut offset, mut rises) = (start, true);
    for (to, [end, _time]) in ends.iter_mut().zip(run) {
        let end = end.load(Relaxed);
        rises &= end > offset;
        *to = end.wrapping_sub(base) as usize;
        offset = end;
    }
    (rises && offset <= last).then_some(offset)
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use super::*;

    #[test]
    fn ends_are_found_together_only_if_all_of_them_rise_within_bounds() {
        let found = |offsets: &[u64], start, last| {
            let run: Vec<_> =
                offsets.iter().map(|end| [AtomicU64::new(*end), AtomicU64::new(0)]).collect();
            let mut ends = [0; 3];
            all_ends(&run, 5, start, last, &mut ends).map(|end| (end, ends))
        };
        assert_eq!(found(&[10, 11, 30], 5, 30), Some((30, [5, 6, 25])));
        let others: [(&[u64], u64, u64); 6] = [
            (&[10, 11, 30], 5, 29),
            (&[10, 11, 30], 10, 30),
            (&[10, 10, 30], 5, 30),
            (&[10, 40, 30], 5, 30),
            (&[10, 40, 30], 5, 50),
            (&[], 5, 30),
        ];
        for (offsets, start, last) in others {
            assert_eq!(found(offsets, start, last), None, "{offsets:?} from {start} to {last}");
        }
    }
}
