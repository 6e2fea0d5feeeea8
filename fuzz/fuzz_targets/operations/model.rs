//! Model of a stream and its readers: every chunk boundary there ever was, and a byte at each
//! offset that follows from the offset alone.

use pfs_stream::{End, Read, ReadError, ReadOptions, Sink, SlowPolicy, Start, Until, WriteError};

/// The byte at an offset of any stream.
pub fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Model of a stream.
#[derive(Debug)]
pub struct Model {
    /// Every offset where a chunk starts, and head.
    boundaries: Vec<u64>,
    pub ring_buffer_size: u64,
    pub channel_buffer_size: u64,
    pub closed: bool,
    pub failed: bool,
    pub removed: bool,
    pub written: bool,
    pub writers: usize,
    pub readers: usize,
    pub finished: u64,
    pub deaths: u64,
    pub deaths_before: u64,
    pub lost_bytes: u64,
    /// True if chunks were pushed for which sleeping readers were not woken yet.
    pub unannounced: bool,
}

impl Model {
    pub fn new(ring_buffer_size: u64, channel_buffer_size: u64) -> Self {
        Self {
            boundaries: vec![0],
            ring_buffer_size,
            channel_buffer_size,
            closed: false,
            failed: false,
            removed: false,
            written: false,
            writers: 0,
            readers: 0,
            finished: 0,
            deaths: 0,
            deaths_before: 0,
            lost_bytes: 0,
            unannounced: false,
        }
    }

    pub fn head(&self) -> u64 {
        *self.boundaries.last().unwrap()
    }

    pub fn chunks(&self) -> u64 {
        self.boundaries.len() as u64 - 1
    }

    pub fn is_boundary(&self, offset: u64) -> bool {
        self.boundaries.binary_search(&offset).is_ok()
    }

    /// Number of chunks that end in `from + 1 ..= to`.
    pub fn chunks_between(&self, from: u64, to: u64) -> u64 {
        let up_to = |offset| self.boundaries.partition_point(|&boundary| boundary <= offset) as u64;
        up_to(to) - up_to(from)
    }

    /// The oldest boundary at most `bytes` below head.
    fn oldest_within(&self, bytes: u64) -> u64 {
        let head = self.head();
        self.boundaries[self.boundaries.partition_point(|&boundary| head - boundary > bytes)]
    }

    fn last_boundary_before(&self, offset: u64) -> u64 {
        self.boundaries[self.boundaries.partition_point(|&boundary| boundary < offset) - 1]
    }

    /// The error with which an append of `len` bytes must fail.
    pub fn refusal(&self, len: u64) -> Option<WriteError> {
        let max = self.ring_buffer_size.min(self.channel_buffer_size);
        if len > max {
            Some(WriteError::TooLarge { size: len, max })
        } else if self.removed {
            Some(WriteError::Removed)
        } else if self.closed {
            Some(WriteError::Closed)
        } else {
            None
        }
    }

    pub fn appended(&mut self, len: u64) {
        if len > 0 {
            self.boundaries.push(self.head() + len);
        }
    }

    /// Closes the stream, as failed or not. The first close decides.
    pub fn closes(&mut self, failed: bool) {
        self.failed |= failed && !self.closed;
        self.closed = true;
    }

    fn writers_gone(&self) -> bool {
        self.written && self.writers == 0
    }

    /// Checks where a reader starts; `tail` is where the ring buffer began.
    pub fn check_start(&self, start: Start, tail: u64, at: u64) {
        match start {
            Start::Oldest => assert_eq!(at, self.oldest_within(self.ring_buffer_size).max(tail)),
            Start::New => assert_eq!(at, self.head()),
            Start::Tail(bytes) => assert_eq!(at, self.head().saturating_sub(bytes).max(tail)),
            Start::Since(_) => assert!(self.is_boundary(at) && at >= tail && at <= self.head()),
            Start::Offset(offset) => assert_eq!(at, offset),
        }
    }
}

/// Model of a reader.
#[derive(Debug)]
pub struct Follower {
    options: ReadOptions,
    start: u64,
    position: u64,
    head_at_attach: u64,
    deaths_before: u64,
    /// Where the ring buffer began, if the reader attached below that.
    missing: Option<u64>,
    /// True if the reader has ever been at head.
    live: bool,
    pub delivered: u64,
    pub lost: u64,
    pub ended: bool,
}

impl Follower {
    pub fn new(options: ReadOptions, model: &Model, tail: u64, at: u64) -> Self {
        Self {
            options,
            start: at,
            position: at,
            head_at_attach: model.head(),
            deaths_before: model.deaths_before,
            missing: (at < tail).then_some(tail),
            live: at == model.head(),
            delivered: 0,
            lost: 0,
            ended: false,
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn blocks(&self, model: &Model) -> bool {
        self.options.policy == SlowPolicy::Block && self.position < model.head()
    }

    fn caught_up(&self) -> bool {
        self.options.until == Until::CaughtUp && self.position >= self.head_at_attach
    }

    /// Returns true if there is nothing to return to this reader.
    pub fn sleeps(&self, model: &Model) -> bool {
        let ends = model.closed || self.options.until == Until::WritersGone && model.writers_gone();
        !model.removed && !self.caught_up() && self.position == model.head() && !ends
    }

    /// The offset below which the reader must get a gap.
    fn floor(&self, model: &Model, tail: u64) -> u64 {
        let lags = model.head() - self.position > model.channel_buffer_size;
        let oldest = self.position.max(tail);
        if self.live && lags && self.options.policy != SlowPolicy::Block {
            oldest.max(model.oldest_within(model.channel_buffer_size))
        } else {
            oldest
        }
    }

    /// Checks the result of a read; `tail` is where the ring buffer begins.
    pub fn check(
        &mut self,
        model: &mut Model,
        tail: u64,
        max_bytes: usize,
        read: Result<Option<Read>, ReadError>,
        sink: &Pieces,
    ) {
        let head = model.head();
        if !matches!(read, Ok(Some(Read::Data { .. }))) {
            assert!(
                sink.bytes.is_empty() && sink.pieces.is_empty(),
                "bytes came with another result than data"
            );
        }
        assert_eq!(matches!(read, Err(ReadError::Removed)), model.removed);
        assert_eq!(matches!(read, Ok(None)), self.sleeps(model), "{read:?} {self:?}");
        let missing = if model.removed { None } else { self.missing.take() };
        match read {
            Err(ReadError::Removed) => self.ended = true,
            Ok(None) => self.live = true,
            Err(ReadError::TooSlow { lag }) => {
                assert_eq!(self.options.policy, SlowPolicy::Disconnect);
                assert_eq!(lag, Some(head - self.position));
                assert!(self.floor(model, tail) > self.position, "the reader was not too slow");
                self.ended = true;
            }
            Err(error) => panic!("{error}"),
            Ok(Some(Read::Gap { from, to, chunks })) => {
                assert_eq!(from, self.position);
                if let Some(missing) = missing {
                    assert_eq!((to, chunks), (missing, 0));
                } else {
                    assert_eq!(self.options.policy, SlowPolicy::Drop);
                    assert_eq!(
                        (to, chunks),
                        (self.floor(model, tail), model.chunks_between(from, to))
                    );
                }
                assert!(to > from && to <= head && model.is_boundary(to));
                self.lost += to - from;
                model.lost_bytes += to - from;
                self.position = to;
            }
            Ok(Some(Read::Data { chunks, bytes })) => {
                assert_eq!(missing, None, "the gap comes first");
                assert_eq!(self.floor(model, tail), self.position, "a gap was not reported");
                let to = self.position + bytes as u64;
                assert_eq!(chunks as u64, model.chunks_between(self.position, to));
                assert!(chunks > 0 && (chunks == 1 || bytes <= max_bytes) && model.is_boundary(to));
                if self.options.until == Until::CaughtUp {
                    assert!(
                        model.last_boundary_before(to) < self.head_at_attach,
                        "the reader continued after it had caught up"
                    );
                }
                sink.check(model, self.position, to);
                self.delivered += bytes as u64;
                self.position = to;
            }
            Ok(Some(Read::End(end))) => {
                self.ended = true;
                match end {
                    End::CaughtUp => assert!(self.caught_up()),
                    End::Closed | End::Failed => {
                        assert!(model.closed && self.position == head);
                        assert_eq!(end == End::Failed, model.failed);
                    }
                    End::WritersGone | End::WriterDied => {
                        assert!(self.options.until == Until::WritersGone && model.writers_gone());
                        assert_eq!(self.position, head);
                        assert_eq!(end == End::WriterDied, model.deaths > self.deaths_before);
                    }
                }
            }
        }
        assert_eq!(self.delivered + self.lost, self.position - self.start);
    }
}

/// A sink that takes bytes in pieces of limited length, and records the cuts.
#[derive(Debug)]
pub struct Pieces {
    bytes: Vec<u8>,
    pieces: Vec<(usize, bool)>,
    max_piece: usize,
}

impl Pieces {
    pub fn new(max_piece: usize) -> Self {
        Self { bytes: Vec::new(), pieces: Vec::new(), max_piece }
    }

    fn check(&self, model: &Model, from: u64, to: u64) {
        assert_eq!(self.bytes.len() as u64, to - from);
        for (offset, &byte) in (from..to).zip(&self.bytes) {
            assert_eq!(byte, byte_at(offset), "at {offset} of {from}..{to}");
        }
        let mut offset = from;
        for &(len, last) in &self.pieces {
            assert!(len > 0 && len <= self.max_piece.max(1));
            offset += len as u64;
            assert_eq!(last, model.is_boundary(offset), "the piece that ends at {offset}");
        }
        assert_eq!(offset, to);
    }
}

impl Sink for Pieces {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn max_piece(&self) -> usize {
        self.max_piece
    }

    fn piece(&mut self, len: usize, last: bool) {
        self.pieces.push((len, last));
    }
}
