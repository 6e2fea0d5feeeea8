//! Actions of readers in a schedule.

use std::time::Duration;

use pfs_stream::*;

use super::{Attached, READERS, Schedule};
use crate::{following::Following, ledger::Ledger, random::Random, sink::Way};

impl Schedule {
    pub(super) fn options(random: &mut Random, ledger: &Ledger) -> ReadOptions {
        let start = match random.below(7) {
            0..3 => Start::Oldest,
            3 => Start::New,
            4 => Start::Tail(random.below(ledger.head() + 100)),
            5 => Start::Offset(random.below(ledger.head() + 100)),
            _ => Start::Since(Duration::from_secs(86_400)),
        };
        let policy = random.of([SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect]);
        let until = random.of([Until::Closed, Until::Closed, Until::WritersGone, Until::CaughtUp]);
        ReadOptions { start, policy, until, ..Default::default() }
    }

    pub(super) fn way(&mut self) -> Way {
        let random = &mut self.random;
        match random.below(4) {
            0 => Way::Bytes,
            1 => Way::Events,
            _ => Way::Runs { header: random.of([0, 1, 9]), in_parts: random.one_in(2) },
        }
    }

    pub(super) fn reader_joins(&mut self, at: usize) {
        let mut options = Self::options(&mut self.random, &self.streams[at].ledger);
        if self.streams[at].ledger.is_leased() && !self.random.one_in(3) {
            options.policy = SlowPolicy::Drop;
        }
        self.reader_joins_with(at, options);
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn reader_joins_as(&mut self, at: usize, policy: SlowPolicy) {
        let options = Self::options(&mut self.random, &self.streams[at].ledger);
        self.reader_joins_with(at, ReadOptions { policy, ..options });
    }

    fn reader_joins_with(&mut self, at: usize, options: ReadOptions) {
        let Some(stream) = self.handle(at).filter(|_| self.streams[at].readers.len() < READERS)
        else {
            return;
        };
        let number = self.number();
        if options.policy == SlowPolicy::Block {
            self.streams[at].ledger.end_lease();
        }
        self.tell(|| format!("reader {number} joins {at}: {options:?}"));
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        readers.extend(Following::join(&stream, ledger, number, options));
    }

    pub(super) fn reader_leaves(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let who = self.random.index(count);
            self.drop_reader(at, who);
        }
    }

    pub(super) fn drop_reader(&mut self, at: usize, who: usize) {
        let reader = self.streams[at].readers.swap_remove(who);
        self.tell(|| format!("reader {} of {at} goes", reader.number));
        self.got.lost += reader.lost;
        self.got.delivered += reader.place.settled - reader.place.start - reader.lost;
    }

    pub(super) fn reader_pauses(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let (who, steps) = (self.random.index(count), self.random.size(300));
            self.streams[at].readers[who].paused_until = self.step + steps;
        }
    }

    pub(super) fn read(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count == 0 {
            return;
        }
        let who = self.random.index(count);
        let reader = &self.streams[at].readers[who];
        let stays = reader.paused_until > self.step || reader.is_asleep() && !self.random.one_in(4);
        if reader.is_over() && self.random.one_in(2) {
            self.drop_reader(at, who);
        } else if !(stays || self.random.one_in(2) && self.follow(at, who)) {
            let most = self.random.size(64 * 1024) as usize - self.random.below(2) as usize;
            self.read_once(at, who, most);
        }
    }

    pub(super) fn read_once(&mut self, at: usize, who: usize, most: usize) {
        let (way, may_sleep) = (self.way(), !self.random.one_in(4));
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let reader = &mut readers[who];
        reader.read(ledger, way, most, may_sleep);
        let (number, is_shm, got, place) =
            (reader.number, reader.is_shm(), reader.last, reader.place);
        self.tell(|| {
            format!("reader {number} of {at} reads {most}, {way:?}, shm {is_shm}: {got:?}, now at {place:?}")
        });
    }

    /// All readers that are not paused read what there is, so that they sleep.
    pub(super) fn catch_up(&mut self, at: usize) {
        for who in 0..self.streams[at].readers.len() {
            for _ in 0..8 {
                let Attached { readers, ledger, .. } = &self.streams[at];
                let reader = &readers[who];
                let is_due = reader.has_news(ledger) || !reader.is_asleep();
                if reader.paused_until > self.step || reader.is_over() || !is_due {
                    break;
                }
                if !self.follow(at, who) {
                    self.read_once(at, who, 64 * 1024);
                }
            }
        }
    }

    pub(super) fn peek(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let (who, ahead, most) =
                (self.random.index(count), self.random.below(1000), self.random.below(1000));
            let Attached { readers, ledger, .. } = &self.streams[at];
            readers[who].peek(ledger, ahead, most as usize);
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn offer(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn grant(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn hold(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn holder_says(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn end_is_told(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn resend(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn holder_stops(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn intrude(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn late_step(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn poll_rooms(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn check_leases(&self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn offered(&self, _: usize) -> u64 {
        0
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn writer_with_lease_ends(&mut self, _: usize, _: usize, _: u64) -> bool {
        false
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn give_up_for_holder(&mut self, _: usize) -> Option<GivenUp> {
        None
    }

    /// Stubs for platforms without readers in other processes.
    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn hand_out(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn ask(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn map(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn take_back(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn all_come_back(&mut self, _: usize) {}

    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn follow(&mut self, _: usize, _: usize) -> bool {
        false
    }
}
