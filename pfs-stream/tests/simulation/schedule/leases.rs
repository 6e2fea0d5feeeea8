//! Writers that are offered leases, hold them, lose them, and continue through the stream.

use std::task::Poll;

use pfs_stream::{
    lease::{LeaseEnd, LeaseStart},
    *,
};

use super::{Attached, BYTES, Schedule};
use crate::{
    following::Following,
    hand::{Did, Hand, Step, Then},
    leasing::{Holding, Host, Leased, Offered},
    ledger::{Chunk, LeaseEnded, Ledger},
    rings::Cause,
    starving,
    writing::{Waiting, Writing},
};

impl Schedule {
    /// A random writer of a stream in this stage of a lease.
    fn pick_leased(&mut self, at: usize, is_due: impl Fn(&Leased) -> bool) -> Option<usize> {
        let writers = &self.streams[at].writers;
        let first = (!writers.is_empty()).then(|| self.random.index(writers.len()))?;
        let is_due =
            |who: &usize| matches!(&writers[*who], Writing::Leased(leased) if is_due(leased));
        (first..writers.len()).chain(0..first).find(is_due)
    }

    fn pick_holding(&mut self, at: usize, is_due: impl Fn(&Holding) -> bool) -> Option<usize> {
        self.pick_leased(at, |leased| matches!(leased, Leased::Holding(holding) if is_due(holding)))
    }

    fn holding(&mut self, at: usize, who: usize) -> &mut Holding {
        match &mut self.streams[at].writers[who] {
            Writing::Leased(leased) => match &mut **leased {
                Leased::Holding(holding) => holding,
                _ => unreachable!("the picked writer has a lease"),
            },
            _ => unreachable!("the picked writer has a lease"),
        }
    }

    fn take_leased(&mut self, at: usize, who: usize) -> Leased {
        match self.streams[at].writers.swap_remove(who) {
            Writing::Leased(leased) => *leased,
            _ => unreachable!("the picked writer has a lease"),
        }
    }

    fn put(&mut self, at: usize, leased: Leased) {
        self.streams[at].writers.push(Writing::Leased(Box::new(leased)));
    }

    /// Whether the only writer may get a lease, as far as the schedule knows.
    fn may_be_leased(&self, at: usize) -> bool {
        let Attached { ledger, readers, .. } = &self.streams[at];
        ledger.may_be_leased() && !readers.iter().any(Following::stays)
    }

    /// Offers a ring to a writer, if the writer may get a lease.
    pub(super) fn offer(&mut self, at: usize) {
        let writers = &self.streams[at].writers;
        let Some(who) = writers.iter().position(|writer| matches!(writer, Writing::Idle(_))) else {
            return;
        };
        let (may, is_starved) = (self.may_be_leased(at), self.has_famines && self.random.one_in(4));
        let writer = self.streams[at].writers[who].idle().expect("the writer is idle");
        let offer = starving::during(is_starved, || writer.offer_lease());
        self.tell(|| format!("offer a lease of {at}: {offer:?}"));
        assert!(may || offer.is_none(), "a lease is offered to a writer that must not have it");
        assert!(offer.is_some() || !may || is_starved || self.is_limited, "no lease is offered");
        let Some(offer) = offer else { return };
        let Writing::Idle(writer) = self.streams[at].writers.swap_remove(who) else {
            unreachable!("the picked writer is in this state")
        };
        let offered = Offered::new(writer, offer).expect("the offered files can be mapped");
        self.put(at, Leased::Offered(offered));
    }

    /// The process has mapped the ring, and the lease is granted if that is still possible; or the
    /// process never answers.
    pub(super) fn grant(&mut self, at: usize) {
        let Some(who) = self.pick_leased(at, |leased| matches!(leased, Leased::Offered(_))) else {
            return;
        };
        let Leased::Offered(offered) = self.take_leased(at, who) else {
            unreachable!("the picked writer is in this state")
        };
        if self.random.one_in(12) {
            self.tell(|| format!("an offer of {at} is given up"));
            return self.streams[at].writers.push(Writing::Idle(offered.writer));
        }
        let (before, may) = (self.before(at), self.may_be_leased(at));
        let was_sealed = self.streams[at].ledger.is_sealed();
        let (writer, granted) = offered.grant(!self.random.one_in(3));
        self.tell(|| {
            format!("grant a lease of {at}: {:?}", granted.as_ref().map(|(start, _)| start))
        });
        // The new ring may have relied on the descriptor of a ring that the stream has left
        // meanwhile.
        let may_lack = may && self.is_limited;
        assert!(
            granted.is_some() == may || may_lack,
            "the grant of a lease differs from the model"
        );
        let Some((start, hand)) = granted else {
            return self.streams[at].writers.push(Writing::Idle(writer));
        };
        let ledger = &mut self.streams[at].ledger;
        ledger.lease();
        self.check_start(at, &start);
        let cause = Cause {
            is_batch: false,
            is_read_elsewhere: false,
            is_starved: false,
            is_limited: self.is_limited,
            is_lease: true,
            was_sealed,
        };
        self.note_moves(at, before, cause);
        let ring = self.streams[at].ledger.rings.current();
        self.put(at, Leased::Holding(Holding::new(writer, hand, ring)));
    }

    fn check_start(&self, at: usize, start: &LeaseStart) {
        let ledger = &self.streams[at].ledger;
        let held = ledger.held();
        let place = |chunk: usize| (chunk as u64, ledger.start_of(chunk));
        assert_eq!((start.tail, start.head), (place(held.tail), place(held.head)));
        assert_eq!(start.max_chunk, ledger.config.max_chunk());
    }

    /// A process that has a lease continues an append, or begins one.
    pub(super) fn hold(&mut self, at: usize) {
        let step = self.step;
        let is_due = |it: &Holding| it.stopped_until <= step && it.has_ended.is_none();
        let Some(who) = self.pick_holding(at, is_due) else { return };
        for _ in 0..self.random.of([1, 1, 1, 8]) {
            self.hold_as(at, who);
        }
    }

    fn hold_as(&mut self, at: usize, who: usize) {
        let step = self.step;
        let holding = self.holding(at, who);
        if holding.has_ended.is_some() || holding.stopped_until > step {
            return;
        }
        if self.holding(at, who).hand.pending.is_none() {
            if self.written > BYTES {
                return;
            }
            let (max, usual) = (self.streams[at].ledger.config.max_chunk(), self.streams[at].usual);
            let len = match self.random.below(16) {
                0 => max,
                1..4 => 1 + self.random.below(max.min(64 * 1024)),
                _ => 1 + self.random.below(usual),
            };
            let chunk = self.chunk(len);
            let most = len + self.random.of([0, 0, 1, 100, 5000]);
            let publishes = self.random.one_in(2);
            self.holding(at, who).hand.begin_from_file(chunk, most.min(max), publishes);
        } else if self.random.one_in(8) && self.holding(at, who).hand.finds_no_bytes() {
            return self.tell(|| format!("a holder of {at} finds no bytes to append"));
        }
        let is_whole = self.random.one_in(2);
        let steps = if is_whole { u64::MAX } else { self.random.size(6) };
        self.go_on(at, who, steps);
        if !is_whole && self.random.one_in(3) {
            let until = self.step + self.random.size(60);
            self.holding(at, who).stopped_until = until;
        }
    }

    /// Does up to this many steps of an append.
    fn go_on(&mut self, at: usize, who: usize, steps: u64) {
        for _ in 0..steps {
            let is_whole = steps == u64::MAX;
            let part = if is_whole { usize::MAX } else { self.random.size(20_000) as usize };
            let holding = self.holding(at, who);
            let Some((chunk, step)) = holding.hand.pending.filter(|(_, step)| *step != Step::Waits)
            else {
                return;
            };
            let (ring, did) = (holding.ring, holding.hand.step(part));
            let published = holding.hand.take_published();
            self.tell(|| {
                format!(
                    "the holder of ring {ring} of {at} comes to {step:?} of {chunk:?}: {did:?}, {published:?}"
                )
            });
            self.published(at, ring, published);
            match did {
                Did::Nothing | Did::Published => {}
                Did::Announced(tail) => {
                    let hand = &self.holding(at, who).hand;
                    let (most, before) = (hand.most(), hand.pushed.clone());
                    self.announced(at, ring, &before, most, tail);
                }
                Did::Pushed(tail) => {
                    let mut before = self.holding(at, who).hand.pushed.clone();
                    // A holder that goes step by step has announced more, if it reads a file.
                    if before
                        .pop()
                        .is_some_and(|chunk| chunk.len == self.holding(at, who).hand.most())
                    {
                        self.announced(at, ring, &before, chunk.len, tail);
                    }
                }
                Did::Woke { tells } | Did::PublishedAndWoke { tells } => {
                    self.woke(at, ring, Some(who), tells);
                }
                Did::Refused(up_to) => self.no_room(at, who, up_to),
                Did::Waits(up_to) => self.holding(at, who).waits_for_room(up_to),
                Did::Ended => {
                    self.ended(at, ring);
                    let holding = self.holding(at, who);
                    let mut left = holding.hand.pushed.clone();
                    // While the chunk is being published, it is one of the pushed chunks.
                    if !matches!(step, Step::Publish(Then::Done)) {
                        left.push(chunk);
                    }
                    (holding.has_ended, holding.hand.pending) = (Some(left), None);
                }
            }
        }
    }

    /// Ends a lease by some other action, in the middle of an append of its holder if there is one.
    pub(super) fn intrude(&mut self, at: usize) {
        let Some(who) =
            self.pick_holding(at, |it| it.hand.pending.is_some() && it.has_ended.is_none())
        else {
            return;
        };
        let (max, usual) = (self.streams[at].ledger.config.max_chunk(), self.streams[at].usual);
        let len = if self.random.one_in(2) { max } else { 1 + self.random.below(usual) };
        match self.random.below(4) {
            0 => self.reader_joins_as(at, SlowPolicy::Block),
            1 => {
                self.writer_joins(at);
                self.append_as_idle(at, len);
            }
            // The process gives the lease back.
            2 if matches!(self.holding(at, who).host, Host::Here(_)) => {
                self.streams[at].ledger.end_lease();
                let holding = self.holding(at, who);
                let ring = holding.ring;
                let Host::Here(writer) = &mut holding.host else {
                    unreachable!("the host is here")
                };
                let end = holding.end.or_else(|| writer.end_lease());
                holding.end = end;
                let found = end.map(|end| Self::as_ended(ring, end));
                assert_eq!(found, self.streams[at].ledger.end_of_lease(ring));
                self.tell(|| format!("the lease of ring {ring} of {at} is given back: {found:?}"));
            }
            // The holder's own writer appends through the stream, beside the lease.
            _ if matches!(self.holding(at, who).host, Host::Here(_)) => {
                let (chunk, how) = (self.chunk(len), self.how(at, false));
                let Host::Here(writer) = &mut self.holding(at, who).host else {
                    unreachable!("the picked writer is in this state")
                };
                let done = starving::during(how.is_starved, || writer.try_append(chunk.bytes()));
                self.tell(|| format!("append {chunk:?} to {at} beside the lease: {done:?}"));
                self.check_append(at, &[chunk], how, done);
            }
            _ => {}
        }
    }

    /// A holder has announced all chunks before `tail`, for a chunk of `bytes` after the chunks
    /// that it has pushed before.
    fn announced(&mut self, at: usize, ring: usize, pushed: &[Chunk], bytes: u64, tail: u64) {
        let ledger = &mut self.streams[at].ledger;
        if ledger.is_leased() && ledger.rings.current() == ring {
            assert_eq!(
                Some(tail as usize),
                Self::tail_under_lease(ledger, pushed, bytes),
                "the holder overwrote too much or too little"
            );
        }
        ledger.announced(ring, tail);
    }

    fn tail_under_lease(ledger: &Ledger, pushed: &[Chunk], bytes: u64) -> Option<usize> {
        let capacity = ledger.rings.ring(ledger.rings.current()).capacity;
        let before: u64 = pushed.iter().map(|chunk| chunk.len).sum();
        ledger.tail_after(capacity, before + bytes, pushed.len() + 1)
    }

    fn published(&mut self, at: usize, ring: usize, chunks: Vec<Chunk>) {
        if chunks.is_empty() {
            return;
        }
        let Attached { ledger, readers, .. } = &mut self.streams[at];
        let is_held = ledger.is_leased() && ledger.rings.current() == ring;
        assert!(is_held, "a chunk was published in a ring whose lease has ended");
        for chunk in chunks {
            ledger.published(chunk);
            self.written += chunk.len;
        }
        readers.iter_mut().filter(|it| it.is_asleep()).for_each(|it| it.is_overdue = true);
    }

    /// A holder has finished waking sleepers: no sleeper that the holder must wake may sleep on.
    fn woke(&mut self, at: usize, ring: usize, who: Option<usize>, tells: bool) {
        let is_current = self.streams[at].ledger.rings.current() == ring;
        // Messages of a process that has gone do not arrive.
        let is_told = who.is_some_and(|who| {
            let holding = self.holding(at, who);
            holding.message |= tells;
            !holding.message
        });
        for reader in &mut self.streams[at].readers {
            let is_awake =
                if reader.is_shm() { reader.ring == ring } else { is_current && is_told };
            reader.is_overdue &= !is_awake;
        }
    }

    fn no_room(&mut self, at: usize, who: usize, up_to: u64) {
        let holding = self.holding(at, who);
        let (most, pushed, room) =
            (holding.hand.most(), holding.hand.pushed.clone(), holding.room.take());
        let ledger = &self.streams[at].ledger;
        assert!(ledger.is_leased(), "a holder waits for room although its lease has ended");
        assert_eq!(Self::tail_under_lease(ledger, &pushed, most), Some(up_to as usize));
        assert!(
            room.is_none_or(|room| room < up_to),
            "the holder was told of room that the ring does not have"
        );
    }

    fn ended(&self, at: usize, ring: usize) {
        assert!(
            self.streams[at].ledger.end_of_lease(ring).is_some(),
            "a lease has ended without a reason"
        );
    }

    /// The daemon hears what holders tell it.
    pub(super) fn holder_says(&mut self, at: usize) {
        self.poll_rooms(at);
        let Some(who) = self.pick_holding(at, |it| it.message && matches!(it.host, Host::Here(_)))
        else {
            return;
        };
        let holding = self.holding(at, who);
        holding.message = false;
        if let Host::Here(writer) = &holding.host {
            writer.holder_published();
        }
        self.tell(|| format!("a holder of {at} says that it has published"));
        // Only readers of this process need this message.
        let readers = self.streams[at].readers.iter_mut().filter(|it| !it.is_shm());
        readers.for_each(|it| it.is_overdue = false);
    }

    /// Polls waits for room that were woken, and now and then one that was not.
    pub(super) fn poll_rooms(&mut self, at: usize) {
        for who in 0..self.streams[at].writers.len() {
            let is_unasked = self.random.one_in(8);
            let Writing::Leased(leased) = &mut self.streams[at].writers[who] else { continue };
            let Leased::Holding(holding) = &mut **leased else { continue };
            let Host::Waits(waits) = &holding.host else { continue };
            if !waits.is_woken() && !is_unasked {
                continue;
            }
            if holding.poll_room()
                && let Some((_, step)) = &mut holding.hand.pending
            {
                *step = Step::Look;
            }
        }
    }

    /// The daemon checks whether a lease has ended, and the process that had it is told; unless the
    /// process is stopped in the middle of an append, or waits for room.
    pub(super) fn end_is_told(&mut self, at: usize) {
        let Some(who) = self.pick_holding(at, |it| it.end.is_none() || it.has_ended.is_some())
        else {
            return;
        };
        let holding = self.holding(at, who);
        if holding.end.is_none() && matches!(holding.host, Host::Here(_)) {
            let (polled, ring) = (holding.look_for_end(), holding.ring);
            let expected = self.streams[at].ledger.end_of_lease(ring);
            let found = match polled {
                Poll::Ready(end) => Some(Self::as_ended(ring, end)),
                Poll::Pending => None,
            };
            self.tell(|| format!("the end of the lease of ring {ring} of {at}: {found:?}"));
            assert_eq!(found, expected);
        }
        let step = self.step;
        let holding = self.holding(at, who);
        let Some(end) = holding.end else { return };
        if holding.hand.pending.is_some() || holding.stopped_until > step {
            return;
        }
        // The process is told the same number that it has counted.
        assert_eq!(end.chunks, holding.hand.published());
        holding.hand.check_unpublished();
        let offset = holding.hand.offset() - holding.hand.unpublished();
        assert!(end.chunks == 0 || end.offset == offset);
        let Leased::Holding(Holding { host: Host::Here(writer), hand, has_ended, .. }) =
            self.take_leased(at, who)
        else {
            unreachable!("the holder has just been told of the end")
        };
        let left = has_ended.unwrap_or(hand.pushed);
        self.put(at, Leased::Refused(writer, left.into()));
    }

    fn as_ended(ring: usize, end: LeaseEnd) -> LeaseEnded {
        assert_eq!(end.violation, None);
        LeaseEnded { ring, chunks: end.chunks, bytes: end.bytes, offset: end.offset }
    }

    /// A process sends the chunks through the stream that are missing there because its lease has
    /// ended.
    pub(super) fn resend(&mut self, at: usize) {
        let Some(who) = self.pick_leased(at, |leased| matches!(leased, Leased::Refused(..))) else {
            return;
        };
        let Leased::Refused(writer, mut chunks) = self.take_leased(at, who) else {
            unreachable!("the picked writer is in this state")
        };
        self.tell(|| format!("{chunks:?} are sent again to {at}"));
        match chunks.pop_front() {
            Some(chunk) => self.poll_writer(at, Waiting::before(writer, chunk, chunks)),
            None => self.streams[at].writers.push(Writing::Idle(writer)),
        }
    }

    /// Stops a process, for a while or for ever.
    pub(super) fn holder_stops(&mut self, at: usize) {
        let Some(who) = self.pick_holding(at, |_| true) else { return };
        let steps = if self.random.one_in(4) { u64::MAX } else { self.random.size(100) };
        let until = self.step.saturating_add(steps);
        self.holding(at, who).stopped_until = until;
    }

    /// A process without connection continues its append.
    pub(super) fn late_step(&mut self, at: usize) {
        let count = self.streams[at].hands.len();
        if count == 0 {
            return;
        }
        let (who, part) = (self.random.index(count), self.random.size(20_000) as usize);
        let (ring, hand) = &mut self.streams[at].hands[who];
        let (ring, chunk, did, most) = (*ring, hand.pending, hand.step(part), hand.most());
        let (published, before, is_done) =
            (hand.take_published(), hand.pushed.clone(), hand.pending.is_none());
        self.tell(|| format!("the late holder of ring {ring} of {at} comes to {chunk:?}: {did:?}"));
        if is_done {
            self.streams[at].hands.swap_remove(who);
        }
        self.published(at, ring, published);
        match did {
            Did::Announced(tail) => self.announced(at, ring, &before, most, tail),
            Did::Woke { tells } | Did::PublishedAndWoke { tells } => {
                self.woke(at, ring, None, tells)
            }
            Did::Ended => self.ended(at, ring),
            Did::Nothing | Did::Pushed(_) | Did::Published | Did::Refused(_) | Did::Waits(_) => {}
        }
    }

    /// A writer that was offered a lease or has one leaves. Returns whether the writer is one of
    /// these.
    pub(super) fn writer_with_lease_ends(&mut self, at: usize, who: usize, ends: u64) -> bool {
        if !matches!(self.streams[at].writers[who], Writing::Leased(_)) {
            return false;
        }
        let writer = match self.take_leased(at, who) {
            Leased::Offered(offered) => offered.writer,
            Leased::Refused(writer, _) => writer,
            Leased::Holding(Holding { host, hand, ring, .. }) => {
                if self.streams[at].ledger.end_of_lease(ring).is_none() {
                    self.streams[at].ledger.end_lease();
                }
                self.leave_behind(at, ring, hand);
                match host {
                    Host::Here(writer) => writer,
                    // The connection is gone.
                    Host::Waits(waits) if ends < 3 => {
                        drop(waits);
                        self.streams[at].ledger.writer_left(false);
                        return true;
                    }
                    Host::Waits(waits) => waits.cancel(),
                    Host::Between => unreachable!("a host is never between two states here"),
                }
            }
        };
        self.writer_finishes(at, writer, ends);
        true
    }

    /// Keeps a process whose writer has left, so that it can continue its append.
    fn leave_behind(&mut self, at: usize, ring: usize, hand: Hand) {
        if hand.pending.is_some() {
            self.streams[at].hands.push((ring, hand));
        }
    }

    /// Makes a holder that waits for room stop waiting for the slowest reader.
    pub(super) fn give_up_for_holder(&mut self, at: usize) -> Option<GivenUp> {
        let who = self.pick_holding(at, |it| matches!(it.host, Host::Waits(_)))?;
        let Attached { readers, ledger, writers, .. } = &self.streams[at];
        let Writing::Leased(leased) = &writers[who] else { return None };
        let Leased::Holding(Holding { host: Host::Waits(waits), .. }) = &**leased else {
            return None;
        };
        let (given_up, up_to) = (waits.give_up_slowest(), waits.up_to);
        let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < up_to as usize;
        // A wait that was not polled yet waits for no reader.
        let is_due = !waits.is_woken() && ledger.is_leased() && readers.iter().any(in_the_way);
        assert!(given_up.is_some() || !is_due, "a blocking reader is not given up");
        given_up
    }

    /// Bytes of rings that are offered.
    pub(super) fn offered(&self, at: usize) -> u64 {
        let Attached { ledger, writers, .. } = &self.streams[at];
        let is_offered =
            |it: &&Writing| matches!(it, Writing::Leased(it) if matches!(**it, Leased::Offered(_)));
        writers.iter().filter(is_offered).count() as u64 * ledger.rings.full_bytes()
    }

    /// Checks that each wait for room is necessary, and that each wait for the end of a lease was
    /// woken if the lease has ended.
    pub(super) fn check_leases(&self, at: usize) {
        let Attached { ledger, readers, writers, .. } = &self.streams[at];
        for writer in writers {
            let Writing::Leased(leased) = writer else { continue };
            let Leased::Holding(holding) = &**leased else { continue };
            let has_ended = ledger.end_of_lease(holding.ring).is_some();
            assert!(
                !has_ended || !holding.sleeps_until_end(),
                "the holder is not told that the lease has ended"
            );
            if !has_ended {
                assert_eq!(
                    holding.hand.readers(),
                    readers.len() as u64,
                    "the number of readers that the holder knows"
                );
            }
            let Host::Waits(waits) = &holding.host else { continue };
            if waits.is_woken() {
                continue;
            }
            let in_the_way =
                |it: &Following| it.blocks() && it.place.chunk(ledger) < waits.up_to as usize;
            assert!(
                !has_ended && readers.iter().any(in_the_way),
                "a holder waits although the ring has room or its lease has ended"
            );
        }
    }
}
