//! Stats of a reader: its position and losses, for others to see.

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use std::os::fd::OwnedFd;

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
use crate::{budget::Reservation, ring::Memory};
use crate::{
    flag,
    read::{Position, Read},
    sync::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const OFFSET: usize = 0;
const SEQ: usize = 1;
const LOST_BYTES: usize = 2;
const LOST_CHUNKS: usize = 3;
/// The chunk that the reader must reach before it tells the stream that there is room; 0 if no
/// writer waits for it.
const WANTED: usize = 4;
const GAPS: usize = 5;
/// 1 if the reader must copy what it reads. Never goes back to 0.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
const COPIES: usize = 6;
const WORDS: usize = 7;
/// The chunk that the reader must reach before it wakes the holder of a lease; 0 if the holder does
/// not wait for it.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
const WANTED_BY_HOLDER: usize = 7;
/// 1 once no writer waits for the reader any more. Never goes back to 0.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
const RELEASED: usize = 8;

/// Words of a stats page that is shared with another process.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
pub(crate) const PAGE_WORDS: usize = 4096 / 8;

/// Position and losses of a reader. Written by that reader alone, except for the words with which
/// others ask it for something. Read by `stat` and by writers that may have to wait for it.
///
/// In the page of another process, the words are whatever that process wrote. They are used only to
/// report about that reader and, if its policy is `block`, to decide whether writers wait for it.
#[derive(Debug)]
pub(crate) enum ReaderStats {
    Own([AtomicU64; WORDS]),
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    Page(StatsPage),
}

/// The stats page that a reader of another process writes.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
#[derive(Debug)]
pub(crate) struct StatsPage {
    memory: Memory,
    /// The file of the page, for the holder of a lease that waits for the reader.
    file: Option<StatsPageFile>,
}

/// The file of a stats page, and the reservation of its descriptor.
#[cfg(all(target_os = "linux", not(any(miri, loom))))]
#[derive(Debug)]
pub(crate) struct StatsPageFile {
    pub(crate) file: OwnedFd,
    pub(crate) _reserved: Reservation,
}

#[cfg(all(target_os = "linux", not(any(miri, loom))))]
impl StatsPage {
    pub(crate) fn new(memory: Memory, file: Option<StatsPageFile>) -> Self {
        Self { memory, file }
    }

    /// Asks the reader to wake the holder of a lease when it reaches chunk `seq`, which must not be
    /// 0. Check the reader's position afterwards: it may have reached the chunk just before.
    pub(crate) fn want_for_holder(&self, seq: u64) {
        flag::raise(&self.memory.words()[WANTED_BY_HOLDER], seq);
    }

    /// The next chunk that the reader reads; beyond every chunk if no writer waits for the reader.
    pub(crate) fn seq(&self) -> u64 {
        let words = self.memory.words();
        if words[RELEASED].load(Relaxed) != 0 { u64::MAX } else { words[SEQ].load(Acquire) }
    }
}

impl ReaderStats {
    pub(crate) fn own() -> Self {
        Self::Own(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        match self {
            Self::Own(words) => &words[index],
            #[cfg(all(target_os = "linux", not(any(miri, loom))))]
            Self::Page(page) => &page.memory.words()[index],
        }
    }

    pub(crate) fn set_position(&self, at: Position) {
        self.word(OFFSET).store(at.offset, Relaxed);
        // Release, because the chunks before `seq` may be overwritten once this is stored: the copy
        // must come before the store.
        self.word(SEQ).store(at.seq, Release);
    }

    /// Starts with losses that were counted elsewhere.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn set_lost(&self, bytes: u64, chunks: u64, gaps: u64) {
        for (word, count) in [(LOST_BYTES, bytes), (LOST_CHUNKS, chunks), (GAPS, gaps)] {
            self.word(word).store(count, Relaxed);
        }
    }

    /// Counts a read, and then stores the reader's position. Only the reader itself calls this.
    pub(crate) fn record(&self, read: Read, at: Position) {
        if let Read::Gap { from, to, chunks } = read {
            for (word, more) in [(LOST_BYTES, to - from), (LOST_CHUNKS, chunks), (GAPS, 1)] {
                let word = self.word(word);
                word.store(word.load(Relaxed).saturating_add(more), Relaxed);
            }
        }
        self.set_position(at);
    }

    /// Asks the reader to report when it reaches chunk `seq`, which must not be 0. Check the
    /// reader's position afterwards: it may have reached the chunk just before.
    pub(crate) fn want(&self, seq: u64) {
        let before = self.word(WANTED).load(Relaxed);
        flag::raise(self.word(WANTED), if before == 0 { seq } else { before.min(seq) });
    }

    /// Whether the reader must now tell the stream that there is room, and whether it must now wake
    /// the holder of a lease. True once for each request. Call after recording the position.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn wanted_by(&self, at: Position) -> (bool, bool) {
        match self {
            Self::Own(_) => (self.is_wanted(at), false),
            Self::Page(page) => {
                let words = page.memory.words();
                flag::take_both(&words[WANTED], &words[WANTED_BY_HOLDER], |wanted| wanted <= at.seq)
            }
        }
    }

    /// Whether the reader must now tell the stream that there is room. True once for each request.
    /// Call this after the position was recorded.
    pub(crate) fn is_wanted(&self, at: Position) -> bool {
        flag::take(self.word(WANTED), |wanted| wanted <= at.seq)
    }

    /// Whether the stats are in a page of another process.
    pub(crate) fn are_shared(&self) -> bool {
        !matches!(self, Self::Own(_))
    }

    /// The file of the stats page, for the holder of a lease that waits for the reader.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        match self {
            Self::Own(_) => None,
            Self::Page(page) => page.file.as_ref().map(|it| &it.file),
        }
    }

    /// Tells the holder of a lease that no writer waits for the reader any more.
    pub(crate) fn release(&self) {
        #[cfg(all(target_os = "linux", not(any(miri, loom))))]
        if let Self::Page(page) = self {
            page.memory.words()[RELEASED].store(1, Relaxed);
        }
    }

    /// Makes the reader copy all chunks before it passes them on.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn require_copies(&self) {
        self.word(COPIES).store(1, Relaxed);
    }

    /// Whether the reader must copy what it reads.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    pub(crate) fn requires_copies(&self) -> bool {
        self.word(COPIES).load(Relaxed) != 0
    }

    /// The chunk that is read next.
    pub(crate) fn seq(&self) -> u64 {
        self.word(SEQ).load(Acquire)
    }

    /// The offset that is read next.
    pub(crate) fn offset(&self) -> u64 {
        self.word(OFFSET).load(Relaxed)
    }

    pub(crate) fn lost_bytes(&self) -> u64 {
        self.word(LOST_BYTES).load(Relaxed)
    }

    pub(crate) fn lost_chunks(&self) -> u64 {
        self.word(LOST_CHUNKS).load(Relaxed)
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.word(GAPS).load(Relaxed)
    }
}
