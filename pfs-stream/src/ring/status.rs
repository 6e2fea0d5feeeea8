//! Stream status for readers, in one word so that it is always consistent.

use pfs_proto::{End, Until};

/// State and writers of a stream: bit 63 closed, 62 removed, 61 ever written, 60 closed as failed,
/// 59 moved to another ring, 58 leased, 57 skipped, 24..57 writers that died, 0..24 writers
/// attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status(u64);

const CLOSED: u64 = 1 << 63;
const REMOVED: u64 = 1 << 62;
const WRITTEN: u64 = 1 << 61;
const FAILED: u64 = 1 << 60;
pub(super) const MOVED: u64 = 1 << 59;
const LEASED: u64 = 1 << 58;
pub(super) const SKIPPED: u64 = 1 << 57;
const DEATH: u64 = 1 << 24;
const WRITERS: u64 = DEATH - 1;

impl Status {
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether the stream was closed as failed.
    pub(crate) fn failed(self) -> bool {
        self.0 & FAILED != 0
    }

    pub(crate) fn removed(self) -> bool {
        self.0 & REMOVED != 0
    }

    /// Whether the stream has moved to another ring. The other ring holds everything that this one
    /// holds, except what was overwritten, unless the stream has [skipped](Self::skipped).
    pub(crate) fn moved(self) -> bool {
        self.0 & MOVED != 0
    }

    /// Whether the stream has moved to a ring that begins later, and that holds nothing of this
    /// ring. Nothing in this ring is overwritten any more.
    pub(crate) fn skipped(self) -> bool {
        self.0 & SKIPPED != 0
    }

    /// The status to leave in a ring that the stream has left for one that begins later.
    pub(crate) fn as_skipped(self) -> Self {
        Self(self.as_moved().0 | SKIPPED)
    }

    /// The status to leave in a ring that the stream has left.
    pub(crate) fn as_moved(self) -> Self {
        Self(self.0 & !LEASED | MOVED)
    }

    /// Whether a writer of another process holds a lease, and appends to the ring directly.
    pub(crate) fn leased(self) -> bool {
        self.0 & LEASED != 0
    }

    pub(crate) fn set_leased(&mut self, leased: bool) {
        self.0 = if leased { self.0 | LEASED } else { self.0 & !LEASED };
    }

    /// The number of attached writers.
    pub(crate) fn writers(self) -> u64 {
        self.0 & WRITERS
    }

    /// Whether there has been a writer, and none is left.
    pub(crate) fn writers_gone(self) -> bool {
        self.0 & WRITTEN != 0 && self.writers() == 0
    }

    /// The number of writers, since the stream's creation, that left without finishing or finished
    /// as failed.
    pub(crate) fn deaths(self) -> u64 {
        (self.0 & (SKIPPED - 1)) >> DEATH.trailing_zeros()
    }

    /// The end for a reader that has read up to head, if this is its end.
    pub(crate) fn end_at_head(self, until: Until, deaths_before: u64) -> Option<End> {
        if self.failed() {
            Some(End::Failed)
        } else if self.closed() {
            Some(End::Closed)
        } else if until == Until::WritersGone && self.writers_gone() {
            Some(if self.deaths() > deaths_before { End::WriterDied } else { End::WritersGone })
        } else {
            None
        }
    }

    pub(crate) fn close(&mut self) {
        self.0 |= CLOSED;
    }

    /// Closes the stream as failed, unless it is closed: readers may know the earlier end.
    pub(crate) fn close_failed(&mut self) {
        if !self.closed() {
            self.0 |= CLOSED | FAILED;
        }
    }

    pub(crate) fn remove(&mut self) {
        self.0 |= REMOVED;
    }

    /// Counts an attached writer. A process has far fewer than the 2^24 that fit.
    pub(crate) fn writer_joined(&mut self) {
        self.0 = (self.0 | WRITTEN) + 1;
    }

    /// Sets the writers of a stream that are attached elsewhere: their number, whether there was
    /// ever one, and how many have died. Numbers that do not fit are clamped.
    #[cfg(feature = "host")]
    pub(crate) fn set_writers(&mut self, attached: u32, is_written: bool, died: u64) {
        const ALL: u64 = WRITTEN | (SKIPPED - 1);
        let died = died.min((SKIPPED - 1) / DEATH) * DEATH;
        let written = if is_written || attached > 0 { WRITTEN } else { 0 };
        self.0 = self.0 & !ALL | written | died | u64::from(attached).min(WRITERS);
    }

    pub(crate) fn writer_left(&mut self, finished: bool) {
        self.0 -= 1;
        if !finished {
            self.0 += DEATH;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_status_do_not_disturb_each_other() {
        let mut status = Status::default();
        assert!(!status.writers_gone(), "no writer has joined yet");
        status.writer_joined();
        status.writer_joined();
        status.writer_left(false);
        status.close();
        assert_eq!((status.writers(), status.deaths(), status.writers_gone()), (1, 1, false));
        status.writer_left(true);
        status.remove();
        assert!(status.writers_gone() && status.closed() && status.removed());
        assert_eq!((status.writers(), status.deaths()), (0, 1));
        assert_eq!(Status::from_word(status.word()), status);
        status.close_failed();
        assert!(!status.failed(), "the stream was closed before, and readers were told");
    }

    #[cfg(feature = "host")]
    #[test]
    fn writers_elsewhere_replace_all_counts_and_nothing_else() {
        let mut status = Status::default();
        status.set_writers(2, false, 5);
        assert_eq!((status.writers(), status.deaths(), status.writers_gone()), (2, 5, false));
        status.close();
        status.set_writers(0, true, 6);
        assert!(status.closed() && status.writers_gone() && !status.moved());
        assert_eq!(status.as_skipped().deaths(), 6);
        assert!(status.as_skipped().skipped() && status.as_skipped().moved());
        status.set_writers(u32::MAX, true, u64::MAX);
        assert!(!status.skipped() && !status.leased() && !status.failed() && status.closed());
        status.set_writers(0, false, 0);
        assert!(!status.writers_gone(), "there was none yet");
    }

    #[test]
    fn a_stream_that_was_closed_as_failed_has_no_other_end() {
        let mut status = Status::default();
        status.writer_joined();
        status.close_failed();
        status.writer_left(false);
        status.close();
        assert_eq!((status.closed(), status.failed(), status.deaths()), (true, true, 1));
        for until in [Until::Closed, Until::WritersGone, Until::CaughtUp] {
            assert_eq!(status.end_at_head(until, 0), Some(End::Failed));
        }
    }
}
