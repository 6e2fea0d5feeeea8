//! Stream contents that depend only on the offset, and an account of the bytes that each reader got
//! and lost.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use harness::noise;

/// Period of the contents, in bytes. It is prime, so that each lap of the ring buffer puts other
/// bytes at the same place.
const PERIOD: usize = 1_000_003;

/// Two periods of contents, so that any piece of up to one period is one slice. No byte is the
/// start of a UTF-8 character, so server-sent events encode all contents as base64.
static CONTENTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let contents: Vec<_> = noise(16, PERIOD).into_iter().map(|byte| 0x80 | byte & 0x3f).collect();
    contents.repeat(2)
});

/// Returns the bytes of every stream at these offsets; at most one period.
pub(super) fn contents(offset: u64, len: usize) -> &'static [u8] {
    &CONTENTS[(offset % PERIOD as u64) as usize..][..len]
}

/// Sums over all readers.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) delivered: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) sessions: AtomicU64,
}

/// Account of one reader of one stream. Panics on a byte that does not match its offset: bytes were
/// then lost or duplicated without a report.
#[derive(Debug)]
pub(super) struct Account {
    position: u64,
    totals: Arc<Totals>,
}

impl Account {
    /// Creates the account of a reader that starts at offset `start`.
    pub(super) fn new(start: u64, totals: Arc<Totals>) -> Self {
        totals.sessions.fetch_add(1, Relaxed);
        Self { position: start, totals }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn delivered(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PERIOD) {
            let is_right = piece == contents(self.position, piece.len());
            assert!(
                is_right,
                "of {} bytes at offset {}, some are of another offset",
                piece.len(),
                self.position
            );
            self.position += piece.len() as u64;
        }
        self.totals.delivered.fetch_add(bytes.len() as u64, Relaxed);
    }

    pub(super) fn lost(&mut self, from: u64, to: u64) {
        assert!(
            from == self.position && to >= from,
            "a gap {from}..{to} at offset {}",
            self.position
        );
        if from == to {
            return;
        }
        self.position = to;
        self.totals.lost.fetch_add(to - from, Relaxed);
        self.totals.gaps.fetch_add(1, Relaxed);
    }
}
