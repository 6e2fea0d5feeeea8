//! Readers in other processes, which follow their stream from ring to ring. Anything may happen
//! between a process's request and what it does with the answer.

use pfs_stream::shm::FollowError;

use super::{Attached, Schedule};
use crate::{following::Following, rings::Cause};

impl Schedule {
    /// A random reader of a stream for which `holds` is true and that is not paused.
    fn pick_reader(&mut self, at: usize, holds: impl Fn(&Following) -> bool) -> Option<usize> {
        let count = self.streams[at].readers.len();
        let first = (count > 0).then(|| self.random.index(count))?;
        let readers = &self.streams[at].readers;
        let is_due = |it: &Following| it.paused_until <= self.step && holds(it);
        (0..count).map(|more| (first + more) % count).find(|who| is_due(&readers[*who]))
    }

    pub(super) fn hand_out(&mut self, at: usize) {
        let Some(who) = self.pick_reader(at, |it| !it.is_shm()) else { return };
        let can_follow = !self.random.one_in(self.cannot_follow);
        let before = self.before(at);
        let may_lack = self.is_limited;
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let number = readers[who].number;
        if !can_follow && !readers[who].is_in_batch() {
            ledger.end_lease();
        }
        let was_sealed = ledger.is_sealed();
        let done = readers[who].hand_out(ledger, can_follow, may_lack);
        self.tell(|| {
            format!("reader {number} of {at} is handed out, follows {can_follow}: {done}")
        });
        if !done {
            return;
        }
        let cause = Cause {
            is_batch: false,
            is_read_elsewhere: true,
            is_starved: false,
            is_limited: self.is_limited,
            is_lease: false,
            was_sealed,
        };
        let had = self.streams[at].ledger.rings.current();
        self.note_moves(at, before, cause);
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let is_moved = ledger.rings.current() != had;
        assert!(
            !(is_moved && can_follow && ledger.rings.ring(had).is_shared == Some(true)),
            "the stream moved without a reason"
        );
        ledger.rings.found_shared(true);
        readers[who].was_handed_out(ledger, can_follow);
        if self.random.one_in(12) {
            self.return_reader(at, who);
        }
    }

    /// A process asks for the next ring. Seldom a process that does not have to.
    pub(super) fn ask(&mut self, at: usize) {
        let is_early = self.random.one_in(16);
        let asks = |it: &Following| if is_early { it.is_shm() } else { it.has_to_ask() };
        if let Some(who) = self.pick_reader(at, asks) {
            self.ask_as(at, who);
        }
    }

    fn ask_as(&mut self, at: usize, who: usize) {
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let (number, had, refused) =
            (readers[who].number, readers[who].ring, readers[who].ask(ledger));
        let has = readers[who].ring;
        self.tell(|| {
            format!("reader {number} of {at} asks in ring {had}, has {has}, refused: {refused:?}")
        });
        if refused == Some(FollowError::NotShared) {
            self.return_reader(at, who);
        }
    }

    /// A process maps the ring that it was given, or fails to.
    pub(super) fn map(&mut self, at: usize) {
        let Some(who) = self.pick_reader(at, Following::has_to_map) else { return };
        if self.random.one_in(12) {
            self.return_reader(at, who);
        } else {
            self.map_as(at, who);
        }
    }

    fn map_as(&mut self, at: usize, who: usize) {
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        readers[who].map(ledger);
        let number = readers[who].number;
        self.tell(|| format!("reader {number} of {at} maps the next ring"));
    }

    /// Takes back the reader of a process that could not map what it was given.
    pub(super) fn take_back(&mut self, at: usize) {
        if let Some(who) = self.pick_reader(at, Following::is_shm) {
            self.return_reader(at, who);
        }
    }

    /// All processes give their readers back, or die: a stream in shared memory is then read by
    /// this process alone.
    pub(super) fn all_come_back(&mut self, at: usize) {
        for who in (0..self.streams[at].readers.len()).rev() {
            if self.streams[at].readers[who].is_shm() {
                self.return_reader(at, who);
            }
            if self.streams[at].readers[who].is_shm() {
                self.drop_reader(at, who);
            }
        }
    }

    fn return_reader(&mut self, at: usize, who: usize) {
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let has_page = readers[who].has_page_for_holder();
        let (done, number) = (readers[who].take_back(ledger), readers[who].number);
        if done && has_page {
            ledger.end_lease();
        }
        self.tell(|| format!("reader {number} of {at} is taken back: {done}"));
    }

    /// Lets a reader ask for a ring or map one, if it has to. Returns whether it had to.
    pub(super) fn follow(&mut self, at: usize, who: usize) -> bool {
        let reader = &self.streams[at].readers[who];
        if reader.has_to_map() {
            self.map_as(at, who);
        } else if reader.has_to_ask() {
            self.ask_as(at, who);
        } else {
            return false;
        }
        true
    }
}
