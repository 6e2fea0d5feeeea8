//! The board: shared words by which the processes of one measurement start together, tell how far
//! they are, and end.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use pfs_measure::clock;

use crate::sys::Words;

/// Words from one place to the next: no two share a cache line, nor a pair of them.
const STRIDE: usize = 16;
const GO: usize = 0;
const BEGAN: usize = STRIDE;
const WRITERS_READY: usize = 2 * STRIDE;
const WRITERS_DONE: usize = WRITERS_READY + 1;
const FIRST_READER: usize = 3 * STRIDE;

const READY: u64 = 1;
const DONE: u64 = 2;
const FAILED: u64 = 3;

/// The board of one measurement.
#[derive(Clone)]
pub struct Board {
    words: Words,
    readers: usize,
}

/// A reader's own place on the board.
#[derive(Clone)]
pub struct Place {
    board: Board,
    at: usize,
}

impl Board {
    /// Makes a board for so many readers.
    pub fn create(dir: &Path, readers: usize) -> io::Result<(Self, PathBuf)> {
        let path = dir.join("board");
        File::create(&path)?.set_len((Self::len(readers) * size_of::<u64>()) as u64)?;
        Ok((Self::open(&path, readers)?, path))
    }

    /// The board that another process made.
    pub fn open(path: &Path, readers: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { words: Words::map(&file, Self::len(readers))?, readers })
    }

    fn len(readers: usize) -> usize {
        FIRST_READER + readers * STRIDE
    }

    /// The place of reader number `reader`.
    pub fn place(&self, reader: usize) -> Place {
        Place { board: self.clone(), at: FIRST_READER + reader * STRIDE }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.readers).map(|reader| self.place(reader))
    }

    /// Lets the writers begin.
    pub fn go(&self) {
        self.words.word(GO).store(1, Release);
    }

    /// A writer is connected. Returns when it may begin.
    pub fn writer_ready(&self) {
        self.words.word(WRITERS_READY).fetch_add(1, Release);
        self.await_go();
    }

    /// Returns when writers may begin, or might if there were any.
    pub fn await_go(&self) {
        while self.words.word(GO).load(Acquire) == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// How many writers are connected, or were.
    pub fn writers_ready(&self) -> u64 {
        self.words.word(WRITERS_READY).load(Acquire)
    }

    /// A writer begins now.
    pub fn begin(&self) -> u64 {
        let now = clock::now();
        // Of several, the first counts.
        _ = self.words.word(BEGAN).compare_exchange(0, now, Release, Relaxed);
        now
    }

    /// When the first writer began; 0 if none has.
    pub fn began(&self) -> u64 {
        self.words.word(BEGAN).load(Acquire)
    }

    /// A writer has sent everything, so that its server has it.
    pub fn writer_done(&self) {
        self.words.word(WRITERS_DONE).fetch_add(1, Release);
    }

    /// How many writers have sent everything.
    pub fn writers_done(&self) -> u64 {
        self.words.word(WRITERS_DONE).load(Acquire)
    }

    /// How many readers are attached, or were.
    pub fn attached(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) >= READY).count()
    }

    /// How many readers have come to their end.
    pub fn done(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) >= DONE).count()
    }

    /// How many readers had to give up.
    pub fn failed(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) == FAILED).count()
    }

    /// The number of chunks that every reader has got which is still reading.
    pub fn slowest(&self) -> u64 {
        let reading = self.places().filter(|place| place.state().load(Relaxed) < DONE);
        reading.map(|place| place.position().load(Relaxed)).min().unwrap_or(u64::MAX)
    }
}

impl Place {
    fn state(&self) -> &AtomicU64 {
        self.board.words.word(self.at)
    }

    fn position(&self) -> &AtomicU64 {
        self.board.words.word(self.at + 1)
    }

    /// This reader gets all that is written from now on.
    pub fn attached(&self) {
        self.state().store(READY, Release);
    }

    /// This reader has got so many chunks.
    pub fn reached(&self, chunks: u64) {
        self.position().store(chunks, Relaxed);
    }

    /// This reader has come to its end, or had to give up.
    pub fn ended(&self, well: bool) {
        self.state().store(if well { DONE } else { FAILED }, Release);
    }
}
