//! Writers in other processes: memory that both sides share, which a writer fills and the stream appends from.
//!
//! ```text
//! page 0: the counters below, each in cache lines of its own
//! then:   512 KiB that go round, in records: | length: u64 | so many bytes, padded to 8 |
//! ```
//!
//! One side produces, the other consumes; each counter has one writer. Either side sets a flag before it goes to
//! sleep and then looks once more; the other takes the flag down and rings, over whatever connects the two. While
//! both are awake, nothing but memory is touched.
//!
//! The consumer trusts none of it: a count or length is read once and checked, and the bytes of a chunk may change
//! while they are copied, which spoils that chunk and nothing else.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use thiserror::Error;

use crate::{
    Appended, PushEnd, Pushed, WriteError, Writer, flag,
    ring::{Memory, Shared, Sharing, write},
    sync::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const WORD: usize = 8;
const LINE: usize = 16;
const HEADER: usize = 4096 / WORD;
/// Bytes of records.
const SIZE: usize = 512 << 10;
const WORDS: usize = HEADER + SIZE / WORD;

/// Bytes produced since the beginning, records whole. Written by the producer.
const PRODUCED: usize = 0;
/// Bytes consumed since the beginning. Written by the consumer.
const CONSUMED: usize = LINE;
/// Chunks of this writer that are in the stream, staged or not. Written by the consumer.
const APPENDED: usize = LINE + 1;
/// Readers attached when the last of them was appended. Written by the consumer.
const READERS: usize = LINE + 3;
/// Whether the consumer has given up, and has said why elsewhere. Written by the consumer.
const ABANDONED: usize = LINE + 2;
/// Whether the consumer is to be rung when there is something.
const CONSUMER_SLEEPS: usize = 2 * LINE;
/// When the producer is to be rung: when so many bytes are consumed, plus one; 0 while it is awake.
const PRODUCER_SLEEPS: usize = 3 * LINE;

/// So many chunks at most are appended in one step.
const RUN: usize = 64;

/// The largest chunk that can be staged, in bytes. Four fit at a time, so that both sides can work at once.
pub const MAX_STAGED: usize = SIZE / 4 - WORD;

/// How much can be staged at a time, in bytes.
pub const STAGING_SIZE: u64 = SIZE as u64;

/// All memory of a staging area, in bytes.
pub const STAGING_MEMORY: u64 = (WORDS * WORD) as u64;

/// The producer has written what no producer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the writer's staging area has counters that cannot be")]
pub struct BadStaging;

/// Why staged chunks cannot be appended.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StagingError {
    /// The stream does not take them.
    #[error(transparent)]
    Append(#[from] WriteError),
    /// There are none to be had.
    #[error(transparent)]
    Bad(#[from] BadStaging),
}

fn record(len: usize) -> u64 {
    (WORD + len.next_multiple_of(WORD)) as u64
}

/// The consuming side, the stream's.
#[derive(Debug)]
pub struct Staging {
    memory: Memory,
    /// For the other process.
    file: Option<OwnedFd>,
    consumed: u64,
}

/// A chunk in a [`Staging`] that is to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    at: usize,
    len: usize,
}

impl Staged {
    /// Its bytes.
    pub fn size(&self) -> usize {
        self.len
    }
}

impl Staging {
    /// Memory for a writer in another process.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn new() -> io::Result<Self> {
        let (memory, file) = Memory::writable_by_others(WORDS)?;
        Ok(Self { memory, file: Some(file), consumed: 0 })
    }

    /// The file that the other process is given; `None` once it was closed.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Closes the file, once the other process has it: the area then occupies no descriptor.
    pub fn close_file(&mut self) {
        self.file = None;
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.memory.words()[index]
    }

    fn source(&self, chunk: Staged) -> Shared<'_> {
        Shared { words: self.records(), at: chunk.at % SIZE, len: chunk.len }
    }

    fn records(&self) -> &[AtomicU64] {
        &self.memory.words()[HEADER..]
    }

    /// The chunk that comes next, if it is there.
    ///
    /// # Errors
    ///
    /// [`BadStaging`], from which there is no way on.
    pub fn next_chunk(&self) -> Result<Option<Staged>, BadStaging> {
        let there = self.word(PRODUCED).load(Acquire).wrapping_sub(self.consumed);
        if there == 0 {
            return Ok(None);
        }
        let place = self.consumed as usize % SIZE;
        let len = self.word(HEADER + place / WORD).load(Relaxed);
        let len = usize::try_from(len).ok().filter(|len| (1..=MAX_STAGED).contains(len)).ok_or(BadStaging)?;
        if there > SIZE as u64 || record(len) > there {
            return Err(BadStaging);
        }
        Ok(Some(Staged { at: place + WORD, len }))
    }

    /// The chunks that come next, as many as are there, have room in `chunks`, and are no more than `most` bytes together. What
    /// is wrong with the first that is not among them, [`next_chunk`](Self::next_chunk) tells.
    fn next_chunks<'a>(&'a self, most: u64, chunks: &mut [Shared<'a>; RUN]) -> usize {
        let there = self.word(PRODUCED).load(Acquire).wrapping_sub(self.consumed).min(SIZE as u64);
        let records = self.records();
        let (mut taken, mut bytes, mut count) = (0, 0, 0);
        for chunk in chunks {
            let place = self.consumed.wrapping_add(taken) as usize % SIZE;
            if taken >= there {
                break;
            }
            let len = records[place / WORD].load(Relaxed);
            if len == 0
                || len > MAX_STAGED as u64
                || taken + record(len as usize) > there
                || bytes + len > most
            {
                break;
            }
            *chunk = Shared { words: records, at: (place + WORD) % SIZE, len: len as usize };
            (taken, bytes, count) = (taken + record(len as usize), bytes + len, count + 1);
        }
        count
    }

    /// Bytes consumed since the beginning, padding included. When it has grown by [`STAGING_SIZE`], all that was staged
    /// before has been consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Gives the place of the chunk that came last back to the producer.
    pub fn consume(&mut self, chunk: Staged) {
        self.skip(record(chunk.len));
        self.give_back();
    }

    fn skip(&mut self, records: u64) {
        self.consumed = self.consumed.wrapping_add(records);
    }

    /// The producer may have all places back that were consumed.
    fn give_back(&self) {
        self.word(CONSUMED).store(self.consumed, Release);
    }

    /// Tells the producer how many of its chunks are in the stream, whichever way they came, and how many readers the last
    /// of them found attached.
    pub fn set_appended(&self, chunks: u64, readers: u32) {
        self.word(READERS).store(readers.into(), Relaxed);
        self.word(APPENDED).store(chunks, Release);
    }

    /// Tells the producer that nothing will be consumed any more.
    pub fn abandon(&self) {
        self.word(ABANDONED).store(1, Release);
    }

    /// Whether the producer waits for something to be consumed: then it must be rung now.
    pub fn producer_is_to_be_rung(&self) -> bool {
        let done = |wanted: u64| self.consumed.wrapping_sub(wanted.wrapping_sub(1)) < 1 << 63;
        flag::take(self.word(PRODUCER_SLEEPS), done)
    }

    /// Asks the producer to ring, if nothing is there yet. True if nothing still is, so that one may wait for that.
    pub fn may_sleep(&self) -> bool {
        if !self.is_empty() {
            return false;
        }
        flag::raise(self.word(CONSUMER_SLEEPS), 1);
        self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.word(PRODUCED).load(Acquire) == self.consumed
    }
}

impl Writer {
    /// As [`push`](Self::push), from a staging area straight into the ring.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// As [`Writer::append`].
    pub async fn push_staged(&mut self, staging: &Staging, chunk: Staged) -> Result<Appended, WriteError> {
        let appended = self.push_source(&staging.source(chunk)).await?;
        self.count_staged(chunk.len);
        Ok(appended)
    }

    /// Appends all that is staged, at most about so many bytes, without waking readers and without waiting. Cheaper than
    /// one by one.
    pub fn try_push_staged(&mut self, staging: &mut Staging, most: u64) -> Pushed<StagingError> {
        let pushed = self.push_batch(|batch| {
            let (bytes, count) = batch.step();
            while batch.bytes < most {
                // Several in one step, where they are small.
                let mut chunks = [Shared { words: &[], at: 0, len: 0 }; RUN];
                let mut found = staging.next_chunks(bytes.min(most - batch.bytes), &mut chunks);
                found = found.min(usize::try_from(count).unwrap_or(RUN));
                if found > 1 && batch.put_all(&chunks[..found]) {
                    let records = chunks[..found].iter().map(|chunk| record(chunk.len)).sum();
                    staging.skip(records);
                    continue;
                }
                let chunk = match staging.next_chunk() {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => return PushEnd::Empty,
                    Err(error) => return PushEnd::Failed(error.into()),
                };
                match batch.put(&staging.source(chunk)) {
                    Ok(true) => staging.skip(record(chunk.len)),
                    Ok(false) => return PushEnd::Full,
                    Err(error) => return PushEnd::Failed(error.into()),
                }
            }
            PushEnd::Enough
        });
        staging.give_back();
        pushed
    }
}

/// The producing side, in the writer's process.
///
/// What it stages is held back until [`publish`](Self::publish): the consumer gets many small chunks at once.
#[derive(Debug)]
pub struct StagingWriter {
    memory: Memory,
    produced: u64,
    published: u64,
    /// There is room at least up to here, as the consumer has said.
    free: u64,
}

impl StagingWriter {
    /// Maps what came from [`Staging::file`].
    ///
    /// # Errors
    ///
    /// When this system can't map it, or it is not what it should be.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        Ok(Self { memory: Memory::open(file, WORDS, Sharing::Writable)?, produced: 0, published: 0, free: 0 })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.memory.words()[index]
    }

    /// Bytes that are staged and not yet appended, padding included: 0 when all of it is in the stream.
    pub fn pending(&self) -> u64 {
        self.produced.saturating_sub(self.word(CONSUMED).load(Acquire))
    }

    /// How many chunks the consumer has appended, whichever way they came.
    pub fn appended(&self) -> u64 {
        self.word(APPENDED).load(Acquire)
    }

    /// How many readers were attached when the last of them was appended, if not later.
    pub fn readers(&self) -> u32 {
        u32::try_from(self.word(READERS).load(Relaxed)).unwrap_or(u32::MAX)
    }

    /// Whether nothing will be consumed any more, for a reason that was told elsewhere.
    pub fn is_abandoned(&self) -> bool {
        self.word(ABANDONED).load(Relaxed) != 0
    }

    fn has_room(&mut self, len: usize) -> bool {
        let end = self.produced + record(len);
        if end > self.free {
            self.free = self.word(CONSUMED).load(Acquire).saturating_add(SIZE as u64);
        }
        end <= self.free
    }

    /// Stages a chunk of 1 to [`MAX_STAGED`] bytes; false if there is no room for it now.
    pub fn try_push(&mut self, chunk: &[u8]) -> bool {
        if !self.has_room(chunk.len()) {
            return false;
        }
        let data = &self.memory.words()[HEADER..];
        let at = (self.produced as usize + WORD) % SIZE;
        let (first, rest) = chunk.split_at(chunk.len().min(SIZE - at));
        write(data, at, first);
        if !rest.is_empty() {
            write(data, 0, rest);
        }
        self.stage(chunk.len());
        true
    }

    /// Reads once from a file, at most `most` bytes, straight into the staging area, as one chunk. `None` if there
    /// is no room for that now; `Some(0)` at the file's end, with nothing staged.
    ///
    /// # Errors
    ///
    /// As the read.
    pub fn try_push_from(&mut self, file: impl AsFd, most: usize) -> io::Result<Option<usize>> {
        let most = most.clamp(1, MAX_STAGED);
        if !self.has_room(most) {
            return Ok(None);
        }
        let at = (self.produced as usize + WORD) % SIZE;
        let first = most.min(SIZE - at);
        let mut runs = self.memory.unshared(HEADER * WORD + at, first, HEADER * WORD, most - first);
        let [first, second] = &mut runs;
        let len = rustix::io::readv(file, &mut [IoSliceMut::new(first), IoSliceMut::new(second)])?;
        if len > 0 {
            self.stage(len);
        }
        Ok(Some(len))
    }

    fn stage(&mut self, len: usize) {
        let header = HEADER + self.produced as usize % SIZE / WORD;
        self.word(header).store(len as u64, Relaxed);
        self.produced += record(len);
    }

    /// Bytes that are held back, padding included.
    pub fn held_back(&self) -> u64 {
        self.produced - self.published
    }

    /// Lets the consumer have what is staged.
    pub fn publish(&mut self) {
        if self.published != self.produced {
            self.published = self.produced;
            self.word(PRODUCED).store(self.produced, Release);
        }
    }

    /// Whether the consumer sleeps: then it must be rung now. To be asked after something was published.
    pub fn consumer_is_to_be_rung(&self) -> bool {
        flag::take(self.word(CONSUMER_SLEEPS), |_| true)
    }

    /// Asks the consumer to ring when no more than `most` bytes are pending, or half the area if that is less, so that
    /// neither side wakes the other for every chunk. True if more than `most` are still pending, so that one may
    /// wait for that.
    pub fn may_sleep(&self, most: u64) -> bool {
        let target = self.produced.saturating_sub(most.min(SIZE as u64 / 2));
        flag::raise(self.word(PRODUCER_SLEEPS), target + 1);
        self.pending() > most
    }

    /// How much may be pending for a chunk of this size to find room.
    pub fn pending_with_room_for(len: usize) -> u64 {
        (SIZE as u64).saturating_sub(record(len))
    }
}
