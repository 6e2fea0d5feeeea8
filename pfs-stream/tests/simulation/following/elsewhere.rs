//! A reader in another process, step by step: it is handed out, asks for the next ring, maps the
//! ring, and comes back.

use pfs_stream::shm::FollowError;

use super::{Following, Kind};
use crate::{
    ledger::{Held, Ledger, Next},
    shm::{Answer, ShmProcess},
};

impl Following {
    /// Hands the reader out to shared memory, if possible: unless it has something to hand on, or
    /// there is too little memory or no descriptor. Returns whether the stream gave it a ring.
    pub(crate) fn hand_out(&mut self, ledger: &Ledger, can_follow: bool, may_lack: bool) -> bool {
        let reader = match std::mem::replace(&mut self.kind, Kind::Between) {
            Kind::Own(reader) => reader,
            other => {
                self.kind = other;
                return false;
            }
        };
        let is_in_batch = self.handed < self.place.at;
        let handout = match reader.hand_out(can_follow) {
            Ok(handout) => handout,
            Err((reader, error)) => {
                assert!(is_in_batch || may_lack || ledger.removed, "{error}");
                self.kind = Kind::Own(Box::new(reader));
                return false;
            }
        };
        assert!(!is_in_batch, "a reader with a batch was handed out");
        (self.sleep, self.is_overdue) = (None, false);
        // The reader continues inside a chunk, as if it had started there.
        (self.place.settled, self.entered) = (self.place.at, self.place.at);
        let shm = ShmProcess::open(handout, self.place, can_follow);
        self.kind = Kind::Shm(Box::new(shm.expect("the handed out files can be mapped")));
        true
    }

    /// Records the ring with which the reader was handed out, once the schedule knows that ring.
    pub(crate) fn was_handed_out(&mut self, ledger: &Ledger, can_follow: bool) {
        self.ring = ledger.rings.current();
        if let Kind::Shm(shm) = &mut self.kind {
            shm.ring = self.ring;
            let layout = shm.handout.start().layout;
            ledger.rings.check_layout(layout);
            assert!(
                can_follow || layout.entries.is_none(),
                "a reader that cannot follow got a ring that the stream will leave"
            );
        }
        self.check(ledger);
    }

    fn shm(&self) -> Option<&ShmProcess> {
        match &self.kind {
            Kind::Shm(shm) => Some(shm),
            _ => None,
        }
    }

    /// Whether the reader found that it must ask for the next ring, and has not asked.
    pub(crate) fn has_to_ask(&self) -> bool {
        let may_ask = |shm: &ShmProcess| shm.answer.is_none() && shm.has_to_follow();
        self.last == Next::Moved && self.shm().is_some_and(may_ask)
    }

    /// Whether the reader was given the next ring, and has not mapped it.
    pub(crate) fn has_to_map(&self) -> bool {
        self.shm().is_some_and(|shm| shm.answer.is_some())
    }

    /// What a ring holds, if the process has that ring.
    pub(crate) fn counters(&self, ring: usize) -> Option<Held> {
        self.shm()?.counters(ring)
    }

    /// Asks the stream for the next ring, whether or not there is one.
    pub(crate) fn ask(&mut self, ledger: &mut Ledger) -> Option<FollowError> {
        let Kind::Shm(shm) = &mut self.kind else { return None };
        (self.sleep, self.is_overdue) = (None, false);
        shm.has_asked = true;
        let current = ledger.rings.current();
        let answer = shm.handout.follow();
        let is_due = if ledger.removed {
            Some(FollowError::Removed)
        } else if self.ring == current {
            // The reader may distrust a ring that was leased.
            Some(if ledger.is_sealed() { FollowError::NotShared } else { FollowError::NotMoved })
        } else {
            None
        };
        match answer {
            Ok(next) => {
                assert_eq!(is_due, None, "the reader was given a ring");
                ledger.rings.found_shared(true);
                ledger.rings.check_layout(next.layout());
                self.ring = current;
                shm.answer = Some(Answer { next, ring: current });
                return None;
            }
            Err(FollowError::NotShared) if is_due == Some(FollowError::NotShared) => {}
            Err(FollowError::NotShared) => {
                assert_eq!(is_due, None, "the reader was told that the ring cannot be shared");
                ledger.rings.found_shared(false);
            }
            Err(error) => {
                assert_eq!(Some(error), is_due);
                if error == FollowError::Removed && self.last == Next::Moved {
                    // Nothing is left in the reader's ring, and its host says that no other ring
                    // comes.
                    self.last = Next::Removed;
                }
            }
        }
        answer.err()
    }

    /// Maps the ring that the reader was given. The stream may have left that ring meanwhile.
    pub(crate) fn map(&mut self, ledger: &Ledger) {
        let Kind::Shm(shm) = &mut self.kind else { return };
        (self.sleep, self.is_overdue) = (None, false);
        shm.map().expect("the handed out files can be mapped");
        self.check(ledger);
    }

    /// Whether the holder of a lease may have the reader's stats page. The page of any other reader
    /// is closed.
    pub(crate) fn has_page_for_holder(&self) -> bool {
        matches!(&self.kind, Kind::Shm(shm) if shm.handout.page().is_some())
    }

    /// Takes the reader back to this process: at its start, or at the position in its page if it
    /// has asked for a ring. A reader that has read and has not asked is not taken back. Returns
    /// whether it was taken back.
    pub(crate) fn take_back(&mut self, ledger: &Ledger) -> bool {
        let Kind::Shm(shm) = &self.kind else { return false };
        let (start, place) = (shm.start, self.place);
        let has_read = place.settled > start.settled || place.missing != start.missing;
        if has_read && !shm.has_asked {
            return false;
        }
        let Kind::Shm(shm) = std::mem::replace(&mut self.kind, Kind::Between) else {
            unreachable!("the reader is in shared memory")
        };
        self.kind = Kind::Own(Box::new(shm.handout.take_back()));
        (self.sleep, self.is_overdue) = (None, false);
        // Parts of a chunk whose rest was not read do not count.
        self.delivered -= place.at - place.settled;
        let at = place.settled;
        (self.place.at, self.place.live) = (at, start.live);
        self.handed = at;
        self.ring = ledger.rings.current();
        self.check(ledger);
        true
    }
}
