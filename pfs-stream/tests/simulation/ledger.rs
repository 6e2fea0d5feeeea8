//! Test oracle: what was appended to a stream, what its ring must still hold, and what a reader
//! must be given next.

use pfs_stream::{End, ReadOptions, SlowPolicy, Start, StreamConfig, StreamStat, Until};

use crate::rings::Rings;

/// A chunk. Its bytes follow from its mark, so no memory is needed to know what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Unique in the schedule.
    pub(crate) mark: u64,
    pub(crate) len: u64,
}

impl Chunk {
    fn byte_at(self, place: u64) -> u8 {
        ((place ^ (self.mark << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 43) as u8
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        (0..self.len).map(|place| self.byte_at(place)).collect()
    }
}

/// All chunks that were ever appended to a stream, and the state of the stream.
pub(crate) struct Ledger {
    pub(crate) config: StreamConfig,
    pub(crate) rings: Rings,
    chunks: Vec<Chunk>,
    /// Where each chunk ends.
    ends: Vec<u64>,
    /// The oldest chunk that the ring holds.
    tail: usize,
    pub(crate) closed: bool,
    pub(crate) failed: bool,
    pub(crate) removed: bool,
    /// The lease of a writer of another process.
    lease: Option<Lease>,
    /// Whether a lease ended in the stream's ring.
    is_sealed: bool,
    /// How leases ended.
    lease_ends: Vec<LeaseEnded>,
    /// Whether the stream is asked for its stats in this step, which makes it look at a leased
    /// ring.
    pub(crate) is_looked_at: bool,
    /// Writers whose end has not come.
    writers: u64,
    written: bool,
    pub(crate) finished: u64,
    pub(crate) deaths: u64,
    /// Deaths before the first writer of this generation.
    pub(crate) deaths_before: u64,
}

/// A lease that begins before chunk `from`.
#[derive(Clone, Copy, Debug)]
struct Lease {
    from: usize,
}

/// How a lease ended, as the holder of that ring is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseEnded {
    pub(crate) ring: usize,
    /// Chunks that the holder appended, their bytes, and the offset after them.
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
}

/// The chunks that a ring holds, as a reader of that ring finds them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) tail: usize,
    pub(crate) head: usize,
    /// Whether the stream has left the ring, which therefore holds these chunks for good.
    pub(crate) is_left: bool,
}

impl Ledger {
    pub(crate) fn new(config: StreamConfig) -> Self {
        Self {
            rings: Rings::new(&config),
            config,
            chunks: Vec::new(),
            ends: Vec::new(),
            tail: 0,
            closed: false,
            failed: false,
            removed: false,
            lease: None,
            is_sealed: false,
            lease_ends: Vec::new(),
            is_looked_at: true,
            writers: 0,
            written: false,
            finished: 0,
            deaths: 0,
            deaths_before: 0,
        }
    }

    pub(crate) fn head(&self) -> u64 {
        self.start_of(self.ends.len())
    }

    /// What the stream's ring holds.
    pub(crate) fn held(&self) -> Held {
        Held { tail: self.tail, head: self.ends.len(), is_left: false }
    }

    /// The start of a chunk; head for the chunk after the newest.
    pub(crate) fn start_of(&self, chunk: usize) -> u64 {
        if chunk == 0 { 0 } else { self.ends[chunk - 1] }
    }

    pub(crate) fn end_of(&self, chunk: usize) -> u64 {
        self.ends[chunk]
    }

    /// The chunk with the byte at an offset.
    pub(crate) fn chunk_at(&self, offset: u64) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }

    /// Fails unless `bytes` are those of the stream from this offset on.
    pub(crate) fn check_bytes(&self, from: u64, bytes: &[u8]) {
        let (mut rest, mut at) = (bytes, from);
        while !rest.is_empty() {
            let number = self.chunk_at(at);
            assert!(number < self.chunks.len(), "the read has more bytes than the stream");
            let (place, left) = (at - self.start_of(number), self.end_of(number) - at);
            let (run, after) = rest.split_at(rest.len().min(left as usize));
            let chunk = self.chunks[number];
            let wrong = (place..).zip(run).find(|(place, byte)| **byte != chunk.byte_at(*place));
            assert_eq!(wrong, None, "a wrong byte in chunk {number}, at {at} of {from}..");
            (rest, at) = (after, at + run.len() as u64);
        }
    }

    /// The oldest chunk that the stream's ring, which has this capacity, still holds after `count`
    /// more chunks of `len` bytes together. `None` if that is unknown.
    pub(crate) fn tail_after(&self, capacity: u64, len: u64, count: usize) -> Option<usize> {
        let most = self.rings.max_chunks(self.rings.current())?;
        Some(self.tail_in(capacity, most, len, count))
    }

    /// The oldest chunk that a ring with room for `capacity` bytes and `most` chunks still holds
    /// after `count` more chunks of `len` bytes together.
    fn tail_in(&self, capacity: u64, most: u64, len: u64, count: usize) -> usize {
        let (head, next) = (self.head() + len, self.ends.len() + count);
        let is_held =
            |chunk: usize| head - self.start_of(chunk) <= capacity && (next - chunk) as u64 <= most;
        (self.tail..self.ends.len()).find(|chunk| is_held(*chunk)).unwrap_or(self.ends.len())
    }

    /// Records chunks that were appended together. Checks that no more history was dropped than
    /// necessary: for the stream's current ring, and for a full-size ring if there was always
    /// memory for one.
    ///
    /// An append after a lease may first have moved the stream to a smaller ring, because the leased
    /// ring still took the memory.
    pub(crate) fn append(
        &mut self,
        chunks: &[Chunk],
        stat: &StreamStat,
        was_limited: bool,
        was_sealed: bool,
    ) {
        let len = chunks.iter().map(|chunk| chunk.len).sum();
        let (bytes, most) = self.rings.full();
        let least = self.tail_in(bytes, most, len, chunks.len());
        let most = self.tail_after(stat.capacity, len, chunks.len());
        let mut end = self.head();
        for chunk in chunks {
            end += chunk.len;
            self.ends.push(end);
        }
        self.chunks.extend(chunks);
        assert_eq!((stat.head, stat.chunks), (end, self.ends.len() as u64));
        let tail = (stat.chunks - stat.chunks_held) as usize;
        if !was_limited {
            assert_eq!(tail, least, "the append dropped too much or too little history");
        } else if let Some(most) = most.filter(|_| chunks.len() == 1 && !was_sealed) {
            assert_eq!(tail, most, "the append dropped too much or too little history");
        } else {
            // The ring may have grown in the middle.
            assert!(tail >= least);
        }
        self.tail = tail;
    }

    /// Whether the only writer may get a lease, provided that every reader can follow and that
    /// there is memory.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn may_be_leased(&self) -> bool {
        !self.closed && !self.removed && self.writers == 1 && self.lease.is_none()
    }

    /// Begins a lease in the stream's current ring.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn lease(&mut self) {
        (self.lease, self.is_sealed) = (Some(Lease { from: self.ends.len() }), false);
    }

    /// Ends the lease, if there is one.
    pub(crate) fn end_lease(&mut self) {
        let Some(Lease { from }) = self.lease.take() else { return };
        self.is_sealed = true;
        let (ring, chunks) = (self.rings.current(), (self.ends.len() - from) as u64);
        let (offset, bytes) = (self.head(), self.head() - self.start_of(from));
        self.lease_ends.push(LeaseEnded { ring, chunks, bytes, offset });
    }

    /// How the lease of a ring ended, if it has.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn end_of_lease(&self, ring: usize) -> Option<LeaseEnded> {
        self.lease_ends.iter().find(|end| end.ring == ring).copied()
    }

    /// Records that the stream has left its ring.
    pub(crate) fn left_ring(&mut self) {
        self.is_sealed = false;
    }

    /// Whether a holder appends to the stream's ring.
    pub(crate) fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether a lease has ended in the stream's ring.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Records that the holder of a ring has announced that it overwrites all chunks before this
    /// one, whether or not its lease has ended.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn announced(&mut self, ring: usize, tail: u64) {
        let tail = tail as usize;
        if ring == self.rings.current() {
            self.tail = self.tail.max(tail);
        } else {
            self.rings.announced(ring, tail);
        }
    }

    /// Records a chunk that the holder of the lease has published.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn published(&mut self, chunk: Chunk) {
        self.ends.push(self.head() + chunk.len);
        self.chunks.push(chunk);
    }

    /// Checks that `stat` agrees with the ledger.
    pub(crate) fn check(&self, stat: &StreamStat) {
        assert_eq!((stat.head, stat.chunks), (self.head(), self.ends.len() as u64));
        assert_eq!(
            (stat.chunks - stat.chunks_held) as usize,
            self.tail,
            "history was dropped without an append"
        );
        assert_eq!(stat.tail, self.start_of(self.tail), "tail is the start of a chunk");
        assert!(stat.head - stat.tail <= stat.capacity);
        assert_eq!(stat.moves, self.rings.current() as u64, "the stream moved for no reason");
        assert_eq!((stat.writers_finished, stat.writers_died), (self.finished, self.deaths));
    }

    pub(crate) fn writer_joined(&mut self) {
        if self.writers == 0 {
            self.deaths_before = self.deaths;
        }
        (self.writers, self.written) = (self.writers + 1, true);
    }

    pub(crate) fn writer_left(&mut self, finished: bool) {
        self.writers -= 1;
        *(if finished { &mut self.finished } else { &mut self.deaths }) += 1;
    }

    /// Closes the stream, as failed or not; only the first close counts.
    pub(crate) fn close(&mut self, failed: bool) {
        self.end_lease();
        if !self.closed {
            (self.closed, self.failed) = (true, failed);
        }
    }

    pub(crate) fn remove(&mut self) {
        self.end_lease();
        self.removed = true;
    }

    /// The end that a reader finds at head.
    pub(crate) fn end_at_head(&self, until: Until, deaths_before: u64) -> Option<End> {
        if self.closed {
            Some(if self.failed { End::Failed } else { End::Closed })
        } else if until == Until::WritersGone && self.written && self.writers == 0 {
            Some(if self.deaths > deaths_before { End::WriterDied } else { End::WritersGone })
        } else {
            None
        }
    }

    /// The offset where a reader starts; `None` if past head.
    pub(crate) fn start(&self, start: Start) -> Option<u64> {
        let (head, tail) = (self.head(), self.start_of(self.tail));
        Some(match start {
            Start::Oldest => self.first_within(self.tail, self.config.ring_buffer_size),
            Start::New => head,
            Start::Tail(bytes) => head.saturating_sub(bytes).max(tail),
            // Every schedule is shorter than the time that is asked for.
            Start::Since(_) => tail,
            Start::Offset(offset) if offset > head => return None,
            Start::Offset(offset) => offset,
        })
    }

    /// The start of the oldest chunk, from chunk `oldest` on, that is within `bytes` of head.
    fn first_within(&self, oldest: usize, bytes: u64) -> u64 {
        let starts = (oldest..self.ends.len()).map(|chunk| self.start_of(chunk));
        starts.into_iter().find(|start| self.head() - start <= bytes).unwrap_or(self.head())
    }
}

/// The position of a reader, as its stream knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) options: ReadOptions,
    pub(crate) start: u64,
    /// The offset that is taken out of the ring next.
    pub(crate) at: u64,
    /// Where the first part of a chunk began, for a chunk that is taken in parts; otherwise the
    /// same as `at`.
    pub(crate) settled: u64,
    /// The end of a gap that comes first, because the reader started below tail.
    pub(crate) missing: Option<u64>,
    head_at_attach: u64,
    deaths_before: u64,
    /// Whether the reader was at head once.
    pub(crate) live: bool,
}

/// What a reader must be given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    Data,
    Gap {
        from: u64,
        to: u64,
        chunks: u64,
    },
    End(End),
    Removed,
    TooSlow {
        lag: u64,
    },
    /// Nothing more in this ring, which the stream has left for another.
    Moved,
}

impl Place {
    /// The position of a reader that attaches now; `None` if past head.
    pub(crate) fn new(ledger: &Ledger, options: ReadOptions) -> Option<Self> {
        let (at, head, tail) =
            (ledger.start(options.start)?, ledger.head(), ledger.start_of(ledger.held().tail));
        Some(Self {
            options,
            start: at,
            at,
            settled: at,
            missing: (at < tail).then_some(tail),
            head_at_attach: head,
            deaths_before: ledger.deaths_before,
            live: at == head,
        })
    }

    /// The chunk that the reader reads next, which writers may not overwrite if its policy is
    /// `block`.
    pub(crate) fn chunk(&self, ledger: &Ledger) -> usize {
        ledger.chunk_at(self.missing.unwrap_or(self.at))
    }

    /// What comes next for a reader of a ring that holds these chunks. Lag is also counted from the
    /// head of that ring. A ring that the stream has left has no end.
    pub(crate) fn next(&self, ledger: &Ledger, held: Held) -> Next {
        if ledger.removed && !held.is_left {
            return Next::Removed;
        }
        if let Some(to) = self.missing {
            return Next::Gap { from: self.at, to, chunks: 0 };
        }
        if self.options.until == Until::CaughtUp && self.at >= self.head_at_attach {
            return Next::End(End::CaughtUp);
        }
        let chunk = ledger.chunk_at(self.at);
        if chunk == held.head && held.is_left {
            return Next::Moved;
        }
        if chunk == held.head {
            let end = ledger.end_at_head(self.options.until, self.deaths_before);
            return end.map_or(Next::Nothing, Next::End);
        }
        let (head, oldest) = (ledger.start_of(held.head), held.tail.max(chunk));
        let lags = |offset: u64| head - offset > ledger.config.channel_buffer_size;
        let next = if self.live && self.options.policy != SlowPolicy::Block && lags(self.at) {
            (oldest..held.head).find(|chunk| !lags(ledger.start_of(*chunk))).unwrap_or(held.head)
        } else {
            oldest
        };
        if next == chunk {
            Next::Data
        } else if self.options.policy == SlowPolicy::Disconnect {
            Next::TooSlow { lag: head - self.settled }
        } else {
            Next::Gap {
                from: self.settled,
                to: ledger.start_of(next),
                chunks: (next - chunk) as u64,
            }
        }
    }

    /// The end of the whole chunks that are taken at once: as many as fit into `most` bytes with a
    /// header each, and at least one.
    pub(crate) fn end_of_whole(&self, ledger: &Ledger, held: Held, header: u64, most: u64) -> u64 {
        let stop =
            if self.options.until == Until::CaughtUp { self.head_at_attach } else { u64::MAX };
        let first = ledger.chunk_at(self.at);
        let mut at = ledger.end_of(first);
        for chunk in first + 1..held.head {
            let end = ledger.end_of(chunk);
            if at >= stop || end - self.at + (chunk + 1 - first) as u64 * header > most {
                break;
            }
            at = end;
        }
        at
    }

    /// Records that the reader has looked, and was given `next`.
    pub(crate) fn note(&mut self, next: Next, held: Held, ledger: &Ledger) {
        match next {
            Next::Gap { to, .. } => (self.at, self.settled, self.missing) = (to, to, None),
            Next::Removed | Next::TooSlow { .. } => self.at = self.settled,
            // The reader does not look at head.
            Next::End(End::CaughtUp) => {}
            Next::Nothing | Next::End(_) => self.live |= ledger.chunk_at(self.at) == held.head,
            Next::Data | Next::Moved => {}
        }
    }

    /// Records that the reader took whole chunks up to an offset.
    pub(crate) fn take_whole(&mut self, to: u64) {
        (self.at, self.settled) = (to, to);
    }
}
