//! A holder of a lease that can stop for ever after each of its steps. It writes the words that
//! [`Holder`] writes, in the same order, one at a time.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use pfs_stream::lease::{Holder, HolderError, LeaseStart};

use crate::{ledger::Chunk, words::Words};

// Words of a full-size ring.
pub(crate) const TAIL: usize = 16;
const HEAD: usize = 32;
const NOTIFY: usize = 48;
const FLOOR: usize = 64;
const READERS: usize = 65;
const PUBLISHED: usize = 80;
const INDEX: usize = 512;
/// The bit of head that ends a lease.
pub(crate) const SEALED: u64 = 1 << 63;

/// Which implementation appends.
pub(crate) enum Kind {
    /// The engine's own, which does not stop in the middle of an append.
    Holder(Box<Holder>),
    Steps,
}

/// A chunk, or the position before a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    seq: u64,
    offset: u64,
}

/// What follows after chunks were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The append checks for room once more.
    Look,
    /// The append waits for room up to this chunk, if there is still none.
    Full(u64),
    Done,
}

/// The next step of the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Check whether the lease is over, and whether there is room.
    Look,
    /// There was no room up to this chunk, and everything is published. Check whether there is
    /// still none.
    Full(u64),
    /// The append waits for room.
    Waits,
    Tail {
        seq: u64,
        offset: u64,
    },
    /// This many bytes are written.
    Bytes(usize),
    Time,
    Start,
    Publish(Then),
    Wake(Then),
}

/// What a step did that others may notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Nothing,
    /// The holder announced that it overwrites all chunks before this one.
    Announced(u64),
    /// The holder wrote a chunk into the ring, which overwrites all chunks before this one.
    Pushed(u64),
    /// The holder published [everything](Hand::take_published) that it had pushed.
    Published,
    /// The holder took the flags of sleepers. The daemon must be told if `tells`.
    Woke {
        tells: bool,
    },
    /// Both in one step.
    PublishedAndWoke {
        tells: bool,
    },
    /// There was no room up to this chunk.
    Refused(u64),
    /// The holder is about to wait for room up to this chunk.
    Waits(u64),
    /// The lease has ended: the current chunk and the pushed ones are not in the stream.
    Ended,
}

pub(crate) struct Hand {
    kind: Kind,
    words: Words,
    asleep: Words,
    capacity: u64,
    entries: u64,
    tail: Place,
    head: Place,
    /// Head as all others see it.
    published: Place,
    /// The first chunk of the lease.
    first: u64,
    newest: u64,
    /// The most bytes that it publishes at once.
    max_batch: u64,
    pub(crate) pending: Option<(Chunk, Step)>,
    /// Bytes that the append announces: more than the chunk has if they come from a file.
    most: u64,
    /// Whether the chunk is published as soon as it is pushed, or later with others.
    publishes: bool,
    /// Chunks that were pushed and not published.
    pub(crate) pushed: Vec<Chunk>,
    just_published: Vec<Chunk>,
}

impl Hand {
    pub(crate) fn new(
        kind: Kind,
        capacity: u64,
        start: &LeaseStart,
        words: Words,
        asleep: Words,
    ) -> Self {
        let place = |(seq, offset)| Place { seq, offset };
        Self {
            kind,
            words,
            asleep,
            capacity,
            entries: (capacity / 64).max(1024),
            tail: place(start.tail),
            head: place(start.head),
            published: place(start.head),
            first: start.head.0,
            newest: start.newest,
            max_batch: start.max_chunk,
            pending: None,
            most: 0,
            publishes: true,
            pushed: Vec::new(),
            just_published: Vec::new(),
        }
    }

    /// The number of published chunks, by the holder's own account.
    pub(crate) fn published(&self) -> u64 {
        match &self.kind {
            Kind::Holder(holder) => holder.published(),
            Kind::Steps => self.published.seq - self.first,
        }
    }

    /// The offset after the newest pushed chunk.
    pub(crate) fn offset(&self) -> u64 {
        match &self.kind {
            Kind::Holder(holder) => holder.offset(),
            Kind::Steps => self.head.offset,
        }
    }

    /// The chunks that were published since the last call.
    pub(crate) fn take_published(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.just_published)
    }

    /// Fails unless the engine's own holder still has what it has pushed and not published.
    pub(crate) fn check_unpublished(&self) {
        if let Kind::Holder(holder) = &self.kind {
            assert!(holder.unpublished().eq(self.pushed.iter().map(|chunk| Ok(chunk.bytes()))));
        }
    }

    /// Bytes that were pushed and not published.
    pub(crate) fn unpublished(&self) -> u64 {
        self.pushed.iter().map(|chunk| chunk.len).sum()
    }

    /// The number of readers, as the holder sees it.
    pub(crate) fn readers(&self) -> u64 {
        self.words.load(READERS)
    }

    /// Whether the value of a word is a time.
    pub(crate) fn is_time(&self, word: usize) -> bool {
        (INDEX..INDEX + 2 * self.entries as usize).contains(&word) && word % 2 == 1
    }

    fn start_at(&self, seq: u64) -> usize {
        INDEX + 2 * (seq % self.entries) as usize
    }

    fn tail_after(&self, len: u64) -> Place {
        let (head, next, mut tail) = (self.head.offset + len, self.head.seq + 1, self.tail);
        while tail.seq < self.head.seq
            && (head - tail.offset > self.capacity || next - tail.seq > self.entries - 1)
        {
            tail.seq += 1;
            tail.offset = self.words.load(self.start_at(tail.seq));
        }
        tail
    }

    /// Begins to push a chunk, which is then published if `publishes`.
    pub(crate) fn begin(&mut self, chunk: Chunk, publishes: bool) {
        (self.pending, self.most, self.publishes) =
            (Some((chunk, Step::Look)), chunk.len, publishes);
    }

    /// Begins to append what one read of a file gives, at most `most` bytes. Not for the engine's
    /// own holder.
    pub(crate) fn begin_from_file(&mut self, chunk: Chunk, most: u64, publishes: bool) {
        self.begin(chunk, publishes);
        if matches!(self.kind, Kind::Steps) {
            self.most = most;
        }
    }

    /// Bytes that the append announces.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// The file has ended, or cannot be read: what was announced is not published.
    pub(crate) fn finds_no_bytes(&mut self) -> bool {
        let is_due = matches!(self.pending, Some((chunk, Step::Bytes(_))) if self.most > chunk.len);
        if is_due {
            self.pending = None;
        }
        is_due
    }

    /// Does the next step of the append. If the step writes bytes, writes at most `part` bytes.
    pub(crate) fn step(&mut self, part: usize) -> Did {
        let Some((chunk, step)) = self.pending else { return Did::Nothing };
        let (did, next) = match (&mut self.kind, step) {
            (_, Step::Waits) => (Did::Nothing, Some(Step::Waits)),
            (Kind::Holder(holder), Step::Full(up_to)) => {
                let waits = holder.waits_for_room(up_to);
                Self::decided(up_to, waits)
            }
            (Kind::Holder(holder), Step::Publish(then)) => match holder.publish() {
                Ok(tells) => {
                    self.just_published.append(&mut self.pushed);
                    (Did::PublishedAndWoke { tells }, Self::after(then))
                }
                Err(HolderError::Ended) => (Did::Ended, None),
                Err(error) => panic!("{error}"),
            },
            (Kind::Holder(holder), _) => {
                let pushed = holder.try_push(chunk.bytes());
                if holder.published() == holder.pushed() - u64::from(pushed.is_ok()) {
                    // Perhaps just now, because the chunk overwrites chunks that were not
                    // published.
                    self.just_published.append(&mut self.pushed);
                }
                match pushed {
                    Ok(()) => self.has_pushed(chunk, self.words.load(TAIL)),
                    Err(HolderError::Full { up_to }) => {
                        (Did::Refused(up_to), Some(Step::Publish(Then::Full(up_to))))
                    }
                    Err(HolderError::Ended) => (Did::Ended, None),
                    Err(error) => panic!("{error}"),
                }
            }
            (Kind::Steps, step) => self.own_step(chunk, step, part),
        };
        self.pending = next.map(|next| (chunk, next));
        did
    }

    fn has_pushed(&mut self, chunk: Chunk, tail: u64) -> (Did, Option<Step>) {
        self.pushed.push(chunk);
        (Did::Pushed(tail), self.publishes.then_some(Step::Publish(Then::Done)))
    }

    fn after(then: Then) -> Option<Step> {
        match then {
            Then::Look => Some(Step::Look),
            Then::Full(up_to) => Some(Step::Full(up_to)),
            Then::Done => None,
        }
    }

    fn decided(up_to: u64, waits: bool) -> (Did, Option<Step>) {
        if waits {
            (Did::Waits(up_to), Some(Step::Waits))
        } else {
            (Did::Nothing, Some(Step::Look))
        }
    }

    fn own_step(&mut self, chunk: Chunk, step: Step, part: usize) -> (Did, Option<Step>) {
        let words = &self.words;
        match step {
            Step::Look => {
                if words.load(HEAD) & SEALED != 0 {
                    return (Did::Ended, None);
                }
                let Place { seq, offset } = self.tail_after(self.most);
                let batch = self.head.offset - self.published.offset + self.most;
                if seq > self.published.seq || batch > self.max_batch && self.head != self.published
                {
                    return (Did::Nothing, Some(Step::Publish(Then::Look)));
                }
                if seq > words.all()[FLOOR].load(Acquire) {
                    return (Did::Refused(seq), Some(Step::Publish(Then::Full(seq))));
                }
                let announces = seq > self.tail.seq;
                (
                    Did::Nothing,
                    Some(if announces { Step::Tail { seq, offset } } else { Step::Bytes(0) }),
                )
            }
            Step::Full(up_to) => {
                let is_sealed = words.all()[HEAD].load(Acquire) & SEALED != 0;
                Self::decided(up_to, !is_sealed && up_to > words.all()[FLOOR].load(Acquire))
            }
            Step::Waits => (Did::Nothing, Some(Step::Waits)),
            Step::Tail { seq, offset } => {
                words.all()[TAIL].store(seq, Release);
                self.tail = Place { seq, offset };
                (Did::Announced(seq), Some(Step::Bytes(0)))
            }
            Step::Bytes(from) => {
                let bytes = chunk.bytes();
                let to = bytes.len().min(from.saturating_add(part));
                let data = INDEX + 2 * self.entries as usize;
                let place = ((self.head.offset + from as u64) % self.capacity) as usize;
                let (before, after) =
                    bytes[from..to].split_at((to - from).min(self.capacity as usize - place));
                words.write(data, place, before);
                words.write(data, 0, after);
                (Did::Nothing, Some(if to < bytes.len() { Step::Bytes(to) } else { Step::Time }))
            }
            Step::Time => {
                words.store(self.start_at(self.head.seq) + 1, self.newest);
                (Did::Nothing, Some(Step::Start))
            }
            Step::Start => {
                let Place { seq, offset } = self.head;
                words.store(self.start_at(seq + 1), offset + chunk.len);
                self.head = Place { seq: seq + 1, offset: offset + chunk.len };
                self.has_pushed(chunk, self.tail.seq)
            }
            Step::Publish(then) => {
                let (from, to) = (self.published.seq, self.head.seq);
                // A publish on the way to room wakes no sleepers; they are woken later.
                let next = if then == Then::Look { Step::Look } else { Step::Wake(then) };
                if from == to {
                    return (Did::Nothing, Some(next));
                }
                match words.all()[HEAD].compare_exchange(from, to, AcqRel, Relaxed) {
                    Ok(_) => {
                        self.published = self.head;
                        self.just_published.append(&mut self.pushed);
                        (Did::Published, Some(next))
                    }
                    Err(word) => {
                        assert_eq!(word, from | SEALED, "another writer appends to the ring");
                        (Did::Ended, None)
                    }
                }
            }
            Step::Wake(then) => {
                let take = |words: &Words, word: usize| words.all()[word].swap(0, SeqCst) != 0;
                let (is_asleep, tells) = (take(&self.asleep, 0), take(words, PUBLISHED));
                if is_asleep {
                    words.half(NOTIFY).fetch_add(1, Release);
                }
                (Did::Woke { tells }, Self::after(then))
            }
        }
    }
}

/// Tests that keep the two holders from drifting apart.
mod tests {
    use std::sync::PoisonError;

    use pfs_stream::{ReadOptions, Reader, SlowPolicy, Stream, StreamConfig, Writer};

    use super::*;
    use crate::{PROCESS, leasing::Offered, random::Random};

    /// A stream with some history and a `block` reader, and the holder of its lease.
    fn leased(in_steps: bool) -> (Stream, Writer, Reader, Hand) {
        let stream = Stream::new("s", StreamConfig::default().buffer_size(8000)).unwrap();
        let mut writer = stream.writer().unwrap();
        for mark in 0..5 {
            writer.try_append(Chunk { mark, len: 300 + mark }.bytes()).unwrap();
        }
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let reader = stream.reader(options).unwrap();
        let offer = writer.offer_lease().unwrap();
        let (writer, granted) = Offered::new(writer, offer).unwrap().grant(in_steps);
        let (_, hand) = granted.unwrap();
        (stream, writer, reader, hand)
    }

    /// Appends a chunk, or finds that there is no room or that the lease has ended.
    fn append(hand: &mut Hand, chunk: Chunk, random: &mut Random) -> (Did, bool) {
        hand.begin(chunk, random.one_in(2));
        let mut tells = false;
        loop {
            match hand.step(1 + random.index(5000)) {
                Did::Woke { tells: told } | Did::PublishedAndWoke { tells: told } => tells |= told,
                did @ (Did::Waits(_) | Did::Ended) => return (did, tells),
                _ => {}
            }
            if hand.pending.is_none() {
                return (Did::Nothing, tells);
            }
        }
    }

    #[test]
    fn the_step_by_step_holder_leaves_the_same_words_as_the_engines_own() {
        let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut both = [leased(false), leased(true)];
            for mark in 0..200 {
                let len =
                    if random.one_in(4) { 1 + random.below(8000) } else { 1 + random.below(40) };
                let (sleeps, reads, ends) =
                    ([random.one_in(4), random.one_in(4)], random.one_in(2), random.one_in(200));
                let came_to = both.each_mut().map(|(stream, _, reader, hand)| {
                    for (words, word, sleeps) in
                        [(&hand.words, PUBLISHED, sleeps[0]), (&hand.asleep, 0, sleeps[1])]
                    {
                        words.store(word, u64::from(sleeps));
                    }
                    if ends {
                        stream.close();
                    }
                    let came_to = append(hand, Chunk { mark, len }, &mut Random::new(mark));
                    if reads {
                        let _ = reader.try_read(&mut Vec::new(), 10_000);
                    }
                    came_to
                });
                assert_eq!(came_to[0], came_to[1]);
                if let Did::Waits(up_to) = came_to[0].0 {
                    for (_, writer, reader, _) in &mut both {
                        while !matches!(reader.try_read(&mut Vec::new(), 10_000), Ok(None)) {}
                        pollster::block_on(writer.room_for_holder(up_to));
                    }
                }
                let [(.., one), (.., other)] = &both;
                assert_eq!((one.published(), one.offset()), (other.published(), other.offset()));
                assert_eq!(one.pushed, other.pushed);
                for (word, (one, other)) in
                    one.words.all().iter().zip(other.words.all()).enumerate()
                {
                    let is_time = both[0].3.is_time(word);
                    assert!(
                        is_time || one.load(Relaxed) == other.load(Relaxed),
                        "word {word} of {mark}"
                    );
                }
                assert_eq!(one.asleep.load(0), other.asleep.load(0));
            }
        }
    }
}
