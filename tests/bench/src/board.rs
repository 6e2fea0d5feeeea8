//! Shared-memory board: atomic words by which the processes of one measurement start together,
//! report progress and end.

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

/// Distance between two places, in words: no two places share a cache line or a pair of adjacent
/// lines.
const STRIDE: usize = 16;
const GO: usize = 0;
const BEGAN: usize = STRIDE;
const WRITERS_READY: usize = 2 * STRIDE;
const WRITERS_DONE: usize = WRITERS_READY + 1;
const FIRST_READER: usize = 3 * STRIDE;

const READY: u64 = 1;
const DONE: u64 = 2;
const FAILED: u64 = 3;

/// Board of one measurement.
#[derive(Clone)]
pub struct Board {
    words: Words,
    readers: usize,
}

/// Place of one reader on the board.
#[derive(Clone)]
pub struct Place {
    board: Board,
    at: usize,
}

impl Board {
    /// Creates a board for this many readers.
    pub fn create(dir: &Path, readers: usize) -> io::Result<(Self, PathBuf)> {
        let path = dir.join("board");
        File::create(&path)?.set_len((Self::len(readers) * size_of::<u64>()) as u64)?;
        Ok((Self::open(&path, readers)?, path))
    }

    /// Opens a board that another process created.
    pub fn open(path: &Path, readers: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { words: Words::map(&file, Self::len(readers))?, readers })
    }

    fn len(readers: usize) -> usize {
        FIRST_READER + readers * STRIDE
    }

    /// Returns the place of reader number `reader`.
    pub fn place(&self, reader: usize) -> Place {
        Place { board: self.clone(), at: FIRST_READER + reader * STRIDE }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.readers).map(|reader| self.place(reader))
    }

    /// Lets the writers start.
    pub fn go(&self) {
        self.words.word(GO).store(1, Release);
    }

    /// Reports that a writer is connected, and waits until it may start.
    pub fn writer_ready(&self) {
        self.words.word(WRITERS_READY).fetch_add(1, Release);
        self.await_go();
    }

    /// Waits until writers may start, whether there are any or not.
    pub fn await_go(&self) {
        while self.words.word(GO).load(Acquire) == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Number of writers that have connected.
    pub fn writers_ready(&self) -> u64 {
        self.words.word(WRITERS_READY).load(Acquire)
    }

    /// Reports that a writer starts now, and returns the time.
    pub fn begin(&self) -> u64 {
        let now = clock::now();
        // With several writers, the first one counts.
        _ = self.words.word(BEGAN).compare_exchange(0, now, Release, Relaxed);
        now
    }

    /// Start time of the first writer; 0 if none has started.
    pub fn began(&self) -> u64 {
        self.words.word(BEGAN).load(Acquire)
    }

    /// Reports that a writer has sent everything to its server.
    pub fn writer_done(&self) {
        self.words.word(WRITERS_DONE).fetch_add(1, Release);
    }

    /// Number of writers that have sent everything.
    pub fn writers_done(&self) -> u64 {
        self.words.word(WRITERS_DONE).load(Acquire)
    }

    /// Number of readers that have attached.
    pub fn attached(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) >= READY).count()
    }

    /// Number of readers that have ended.
    pub fn done(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) >= DONE).count()
    }

    /// Number of readers that have failed.
    pub fn failed(&self) -> usize {
        self.places().filter(|place| place.state().load(Acquire) == FAILED).count()
    }

    /// Smallest number of chunks received by any reader that is still reading.
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

    /// Reports that this reader is attached: it gets everything that is written from now on.
    pub fn attached(&self) {
        self.state().store(READY, Release);
    }

    /// Reports the number of chunks that this reader has received.
    pub fn reached(&self, chunks: u64) {
        self.position().store(chunks, Relaxed);
    }

    /// Reports that this reader has ended or failed.
    pub fn ended(&self, well: bool) {
        self.state().store(if well { DONE } else { FAILED }, Release);
    }
}
