//! One schedule: a registry, streams in it, and whoever a seed has come, write, read, pause, die and go.

use std::{task::Poll, time::Duration};

use pfs_stream::*;

use crate::{
    following::Following,
    ledger::{Chunk, Ledger},
    random::Random,
    sink::Way,
    writing::{Waiting, Writing},
};

/// Most readers of a stream at a time.
const READERS: usize = 6;
/// Most writers of a stream at a time.
const WRITERS: usize = 3;
/// Bytes that are appended in a schedule at most, so that none takes long.
const BYTES: u64 = 1 << 20;

/// Bytes of the ring of a large stream, at least. It has more than one append copies on its way to full size.
const LARGE: u64 = 300 << 10;

/// A stream, and who is attached to it.
struct Attached {
    name: &'static str,
    ledger: Ledger,
    writers: Vec<Writing>,
    readers: Vec<Following>,
    /// About how large a chunk is.
    usual: u64,
    /// Bytes of a ring from the heap, which stay with those who are attached when the stream is removed.
    kept: u64,
}

/// What readers that left had got, by their own account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    delivered: u64,
    lost: u64,
}

/// What is done with a stream.
type Step = fn(&mut Schedule, usize);

struct Schedule {
    random: Random,
    registry: Registry,
    /// The streams that can be found, and those that were removed and have not been left by all.
    streams: Vec<Attached>,
    /// Whether memory or descriptors were ever limited.
    is_limited: bool,
    marks: u64,
    readers: u32,
    step: u64,
    written: u64,
    /// Of readers that left.
    got: Got,
    given_up: u64,
    /// How often something is appended, for so many reads.
    pace: (u64, u64),
    trace: bool,
}

/// Runs the schedule of this seed.
pub(crate) fn run(seed: u64, trace: bool) {
    let mut schedule = Schedule::new(seed, trace);
    let steps = schedule.random.of([40, 100, 300]);
    for step in 0..steps {
        schedule.step = step;
        schedule.step();
    }
    schedule.end();
}

impl Schedule {
    fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let max_memory = if random.one_in(2) { u64::MAX } else { 4096 + random.size(256 << 10) };
        let descriptors = random.of([u64::MAX, u64::MAX, u64::MAX, 2, 1, 0]);
        let pace = random.of([(1, 1), (1, 1), (1, 3), (3, 1), (10, 1)]);
        Self {
            registry: Registry::with_descriptors(Limits { max_streams: 2, max_memory }, descriptors),
            random,
            streams: Vec::new(),
            is_limited: max_memory < u64::MAX || descriptors < u64::MAX,
            marks: 0,
            readers: 0,
            step: 0,
            written: 0,
            got: Got::default(),
            given_up: 0,
            pace,
            trace,
        }
    }

    #[allow(clippy::print_stderr, reason = "a schedule that is replayed is to be seen")]
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}: {}", self.step, what());
        }
    }

    fn step(&mut self) {
        let memory = self.registry.memory();
        let Some(at) = self.pick_stream() else { return self.create(0) };
        let (append, read) = self.pace;
        let steps: [(u64, Step); 15] = [
            (100 * append, Self::append),
            (100 * read, Self::read),
            (20, Self::poll_writers),
            (20, Self::reader_joins),
            (10, Self::writer_joins),
            (7, Self::writer_ends),
            (7, Self::reader_leaves),
            (7, Self::reader_pauses),
            (14, Self::hand_out),
            (7, Self::peek),
            (8, Self::give_up),
            (2, Self::create),
            (1, Self::close),
            (1, Self::remove),
            (2, Self::limit),
        ];
        let mut number = self.random.below(steps.iter().map(|(weight, _)| weight).sum());
        for (weight, step) in steps {
            if number < weight {
                step(self, at);
                break;
            }
            number -= weight;
        }
        let limit = self.registry.limits().max_memory;
        assert!(self.registry.memory() <= limit.max(memory), "more memory is taken than there may be");
        self.check();
    }

    /// One of the streams, if there is any. One of those that were removed seldom.
    fn pick_stream(&mut self) -> Option<usize> {
        let count = self.streams.len();
        let first = (count > 0).then(|| self.random.index(count))?;
        let is_removed = |at: usize| self.streams[at].ledger.removed;
        if is_removed(first) && !self.random.one_in(4) {
            (0..count).find(|at| !is_removed(*at))
        } else {
            Some(first)
        }
    }

    /// The handle of a stream that was not removed.
    fn handle(&self, at: usize) -> Option<Stream> {
        let attached = &self.streams[at];
        let is_there = !attached.ledger.removed;
        is_there.then(|| self.registry.get(attached.name).expect("the registry has it"))
    }

    /// Makes a stream, in place of another one of its name perhaps; readers may wait for it.
    fn create(&mut self, _: usize) {
        let name = self.random.of(["a", "b"]);
        let is_large = self.random.one_in(16);
        let (ring, channel, usual) = if is_large {
            let random = &mut self.random;
            let size = LARGE + random.below(1 << 20);
            (size, (64 << 10) + random.below(1 << 20), random.size(32 << 10))
        } else {
            let (ring, channel) = (255 + self.random.size(64 << 10), 255 + self.random.size(64 << 10));
            (ring, channel, self.random.size(ring.min(channel)))
        };
        let config = StreamConfig::default()
            .ring_buffer_size(ring)
            .channel_buffer_size(channel)
            .reserve(!is_large && self.random.one_in(4));
        let ledger = Ledger::new(config.clone());
        let found = self.streams.iter().position(|it| it.name == name && !it.ledger.removed);
        let replaces = found.is_some() && self.random.one_in(2);
        let mut waiting = Vec::new();
        if found.is_none() {
            for _ in 0..self.random.below(3) {
                let (number, options) = (self.number(), Self::options(&mut self.random, &ledger));
                let pending = self.registry.reader_when_created(name, options, Following::peer(number));
                waiting.push((number, options, pending));
            }
        }
        self.tell(|| format!("create {name} {config:?}, replaces {replaces}"));
        if let Some(at) = found.filter(|_| replaces) {
            self.note_size(at);
        }
        let made = if replaces {
            self.registry.replace_with(name, config, |_| ())
        } else {
            self.registry.create(name, config)
        };
        match made {
            Ok(_) => assert!(found.is_none() || replaces, "two streams of a name"),
            Err(CreateError::Exists) => return assert!(found.is_some() && !replaces),
            Err(CreateError::TooMuchMemory { .. }) => return assert!(self.is_limited),
            Err(error) => panic!("{error}"),
        }
        if let Some(at) = found {
            self.streams[at].ledger.removed = true;
        }
        let mut readers = Vec::new();
        for (number, options, pending) in waiting {
            assert!(!pending.is_waiting());
            let attached = pollster::block_on(pending);
            readers.extend(Following::attached(attached, &ledger, number, options));
        }
        self.streams.push(Attached { name, ledger, writers: Vec::new(), readers, usual, kept: 0 });
    }

    fn number(&mut self) -> u32 {
        self.readers += 1;
        self.readers
    }

    fn options(random: &mut Random, ledger: &Ledger) -> ReadOptions {
        let start = match random.below(7) {
            0..3 => Start::Oldest,
            3 => Start::New,
            4 => Start::Tail(random.below(ledger.head() + 100)),
            5 => Start::Offset(random.below(ledger.head() + 100)),
            _ => Start::Since(Duration::from_secs(86_400)),
        };
        let policy = random.of([SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect]);
        let until = random.of([Until::Closed, Until::Closed, Until::WritersGone, Until::CaughtUp]);
        ReadOptions { start, policy, until, wait: false }
    }

    fn way(&mut self) -> Way {
        let random = &mut self.random;
        match random.below(4) {
            0 => Way::Bytes,
            1 => Way::Events,
            _ => Way::Runs { header: random.of([0, 1, 9]), in_parts: random.one_in(2) },
        }
    }

    fn chunk(&mut self, len: u64) -> Chunk {
        self.marks += 1;
        Chunk { mark: self.marks, len }
    }

    fn append(&mut self, at: usize) {
        let max = self.streams[at].ledger.config.max_chunk();
        let Some(who) = self.pick_writer(at) else { return self.writer_joins(at) };
        if self.written > BYTES {
            return;
        }
        let usual = self.streams[at].usual;
        let len = match self.random.below(16) {
            0 => self.random.of([0, max, max + 1]),
            1..4 => 1 + self.random.below(max.min(64 << 10)),
            _ => 1 + self.random.below(usual),
        };
        let chunk = self.chunk(len);
        match self.random.below(8) {
            0 => self.append_all(at, who, usual),
            1..3 => self.append_and_wait(at, who, chunk),
            _ => self.try_append(at, who, chunk),
        }
        if self.streams[at].ledger.closed && self.random.one_in(8) {
            // A writer that wants to go on makes another one.
            self.remove(at);
        }
    }

    /// A writer that does not wait.
    fn pick_writer(&mut self, at: usize) -> Option<usize> {
        let writers = &self.streams[at].writers;
        let first = (!writers.is_empty()).then(|| self.random.index(writers.len()))?;
        let is_idle = |who: &usize| matches!(writers[*who], Writing::Idle(_));
        Some(first).filter(is_idle).or_else(|| (0..writers.len()).find(is_idle))
    }

    fn writer(&mut self, at: usize, who: usize) -> &mut Writer {
        match &mut self.streams[at].writers[who] {
            Writing::Idle(writer) => writer,
            Writing::Waiting(_) => unreachable!("only one that does not wait was picked"),
        }
    }

    fn try_append(&mut self, at: usize, who: usize, chunk: Chunk) {
        let before = self.handle(at).map(|stream| stream.stat().capacity);
        let done = self.writer(at, who).try_append(chunk.bytes());
        self.tell(|| format!("append {chunk:?} to {at}: {done:?}"));
        self.judge_append(at, &[chunk], before, done);
    }

    fn append_and_wait(&mut self, at: usize, who: usize, chunk: Chunk) {
        let Writing::Idle(writer) = self.streams[at].writers.swap_remove(who) else {
            unreachable!("only one that does not wait was picked")
        };
        self.poll_writer(at, Waiting::new(writer, chunk));
    }

    fn append_all(&mut self, at: usize, who: usize, usual: u64) {
        // A ring with many small chunks is copied step by step, too.
        let is_large = self.streams[at].ledger.config.ring_buffer_size >= LARGE;
        let is_burst = is_large && self.random.one_in(2);
        let (count, most) = if is_burst {
            (200 + self.random.below(800), 90)
        } else {
            (1 + self.random.size(40), usual / 4 + 2)
        };
        let lens: Vec<_> = (0..count).map(|_| self.random.below(most)).collect();
        let chunks: Vec<_> = lens.into_iter().map(|len| self.chunk(len)).collect();
        let given: Vec<_> = chunks.iter().map(|chunk| chunk.bytes()).collect();
        let chunks: Vec<_> = chunks.into_iter().filter(|chunk| chunk.len > 0).collect();
        let before = self.handle(at).map(|stream| stream.stat().capacity);
        let done = self.writer(at, who).try_append_all(&given);
        self.tell(|| format!("append {} chunks to {at}: {done:?}", chunks.len()));
        self.judge_append(at, &chunks, before, done.and_then(|done| done.map(drop).ok_or(WriteError::Full)));
    }

    /// Whether an append could come to this; and enters it. `before` is the capacity of the ring before it.
    fn judge_append(
        &mut self,
        at: usize,
        chunks: &[Chunk],
        before: Option<u64>,
        done: Result<(), WriteError>,
    ) {
        let stat = self.handle(at).map(|stream| stream.stat());
        let is_limited = self.is_limited;
        let Attached { ledger, readers, .. } = &mut self.streams[at];
        let len: u64 = chunks.iter().map(|chunk| chunk.len).sum();
        let max = ledger.config.max_chunk();
        let too_large = len > max;
        if too_large {
            return assert_eq!(done, Err(WriteError::TooLarge { size: len, max }));
        }
        if ledger.removed {
            return assert!(done == Err(WriteError::Removed) || len == 0 && chunks.len() != 1, "{done:?}");
        }
        if ledger.closed {
            return assert_eq!(done, Err(WriteError::Closed));
        }
        let stat = stat.expect("it was not removed");
        match done {
            Ok(()) if len == 0 => {}
            Ok(()) => {
                ledger.append(chunks, &stat, is_limited);
                self.written += len;
            }
            Err(WriteError::Full) => {
                let needed = ledger.tail_after(stat.capacity, len, chunks.len());
                let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < needed;
                assert!(readers.iter().any(in_the_way), "nobody needs the room");
            }
            Err(WriteError::NoMemory { .. }) => {
                let (capacity, count) = (before.expect("it was not removed"), chunks.len() as u64);
                let fits = len <= capacity && count <= ledger.max_chunks(capacity);
                assert!(is_limited && !fits, "there is room for {len} bytes in {capacity}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Has an executor poll writers that were woken, and one that was not now and then.
    fn poll_writers(&mut self, at: usize) {
        for who in (0..self.streams[at].writers.len()).rev() {
            let is_due = match &self.streams[at].writers[who] {
                Writing::Waiting(waiting) => waiting.is_woken() || self.random.one_in(8),
                Writing::Idle(_) => false,
            };
            if is_due && let Writing::Waiting(waiting) = self.streams[at].writers.swap_remove(who) {
                self.poll_writer(at, waiting);
            }
        }
    }

    fn poll_writer(&mut self, at: usize, mut waiting: Waiting) {
        let before = self.handle(at).map(|stream| stream.stat().capacity);
        let chunk = waiting.chunk;
        let (writing, done) = match waiting.poll() {
            Poll::Pending => (Writing::Waiting(waiting), Err(WriteError::Full)),
            Poll::Ready((writer, done)) => (Writing::Idle(writer), done.expect("it was not cancelled")),
        };
        self.tell(|| format!("append {chunk:?} to {at}, waiting: {done:?}"));
        self.judge_append(at, &[chunk], before, done);
        self.streams[at].writers.push(writing);
    }

    fn writer_joins(&mut self, at: usize) {
        if self.streams[at].writers.len() >= WRITERS {
            return;
        }
        self.tell(|| format!("a writer joins {at}"));
        let known = self.pick_writer(at);
        let stream = self.handle(at);
        // A clone counts, whether or not the stream still takes anything.
        let writer = match (known, stream) {
            (Some(who), _) if self.random.one_in(3) => self.writer(at, who).clone(),
            (_, None) => return,
            (_, Some(stream)) => match stream.writer() {
                Ok(writer) => writer,
                Err(error) => return assert!(error == AttachError::Closed && self.streams[at].ledger.closed),
            },
        };
        let attached = &mut self.streams[at];
        attached.ledger.writer_joined();
        attached.writers.push(Writing::Idle(writer));
    }

    /// A writer finishes, fails or dies. One that waits does not wait any longer, or dies.
    fn writer_ends(&mut self, at: usize) {
        let count = self.streams[at].writers.len();
        if count == 0 {
            return;
        }
        let who = self.random.index(count);
        let ends = self.random.below(8);
        self.tell(|| format!("writer {who} of {at} ends: {ends}"));
        let Attached { writers, ledger, .. } = &mut self.streams[at];
        let mut writer = match writers.swap_remove(who) {
            Writing::Idle(writer) => writer,
            Writing::Waiting(waiting) if ends < 3 => {
                drop(waiting);
                return ledger.writer_left(false);
            }
            Writing::Waiting(waiting) => return writers.push(Writing::Idle(waiting.cancel())),
        };
        let finishes = match ends {
            0..3 => {
                drop(writer);
                return ledger.writer_left(false);
            }
            3 if self.random.one_in(4) => {
                // Its host goes, and readers wait on.
                writer.depart_as(Departure::Open);
                return drop(writer);
            }
            4 if self.random.one_in(2) => Finish::Close,
            5 => Finish::Failed,
            6 if self.random.one_in(2) => Finish::CloseFailed,
            _ => Finish::KeepOpen,
        };
        writer.finish(finishes);
        match finishes {
            Finish::Close => ledger.close(false),
            Finish::CloseFailed => ledger.close(true),
            _ => {}
        }
        ledger.writer_left(matches!(finishes, Finish::Close | Finish::KeepOpen));
    }

    fn reader_joins(&mut self, at: usize) {
        let Some(stream) = self.handle(at).filter(|_| self.streams[at].readers.len() < READERS) else {
            return;
        };
        let number = self.number();
        let options = Self::options(&mut self.random, &self.streams[at].ledger);
        self.tell(|| format!("reader {number} joins {at}: {options:?}"));
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        readers.extend(Following::join(&stream, ledger, number, options));
    }

    fn reader_leaves(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let who = self.random.index(count);
            self.drop_reader(at, who);
        }
    }

    fn drop_reader(&mut self, at: usize, who: usize) {
        let reader = self.streams[at].readers.swap_remove(who);
        self.tell(|| format!("reader {} of {at} goes", reader.number));
        self.got.lost += reader.lost;
        self.got.delivered += reader.place.settled - reader.place.start - reader.lost;
    }

    fn reader_pauses(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let (who, steps) = (self.random.index(count), self.random.size(100));
            self.streams[at].readers[who].paused_until = self.step + steps;
        }
    }

    fn read(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count == 0 {
            return;
        }
        let who = self.random.index(count);
        let reader = &self.streams[at].readers[who];
        let stays = reader.paused_until > self.step || reader.is_asleep() && !self.random.one_in(4);
        if reader.is_over() && self.random.one_in(2) {
            self.drop_reader(at, who);
        } else if !stays {
            let most = self.random.size(64 << 10) as usize - self.random.below(2) as usize;
            self.read_once(at, who, most);
        }
    }

    fn read_once(&mut self, at: usize, who: usize, most: usize) {
        let (way, may_sleep) = (self.way(), !self.random.one_in(4));
        let Attached { readers, ledger, .. } = &mut self.streams[at];
        let reader = &mut readers[who];
        reader.read(ledger, way, most, may_sleep);
        let (number, is_shm, got, place) = (reader.number, reader.is_shm(), reader.last, reader.place);
        self.tell(|| {
            format!("reader {number} of {at} reads {most}, {way:?}, shm {is_shm}: {got:?}, now at {place:?}")
        });
    }

    fn peek(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let (who, ahead, most) =
                (self.random.index(count), self.random.below(1000), self.random.below(1000));
            let Attached { readers, ledger, .. } = &self.streams[at];
            readers[who].peek(ledger, ahead, most as usize);
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn hand_out(&mut self, at: usize) {
        let count = self.streams[at].readers.len();
        if count > 0 {
            let (who, is_taken_back) = (self.random.index(count), self.random.one_in(4));
            self.tell(|| format!("reader {who} of {at} is handed out, and taken back: {is_taken_back}"));
            let is_limited = self.is_limited;
            let Attached { readers, ledger, .. } = &mut self.streams[at];
            readers[who].hand_out(ledger, is_taken_back, is_limited);
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn hand_out(&mut self, _: usize) {}

    /// A writer that waits is no longer to wait for the slowest reader.
    fn give_up(&mut self, at: usize) {
        let Attached { writers, readers, ledger, .. } = &mut self.streams[at];
        let waiting = writers.iter().find_map(|writer| match writer {
            Writing::Waiting(waiting) => Some(waiting),
            Writing::Idle(_) => None,
        });
        let Some(given_up) = waiting.and_then(Waiting::give_up_slowest) else { return };
        let slowest = readers.iter().filter(|it| it.blocks()).map(|it| it.place.chunk(ledger)).min();
        let reader = readers.iter_mut().find(|it| Following::peer(it.number) == given_up.peer);
        let reader = reader.expect("it is attached");
        assert!(reader.blocks() && Some(reader.place.chunk(ledger)) == slowest, "another one is slower");
        assert_eq!(given_up.position, reader.place.settled);
        reader.given_up = true;
        self.given_up += 1;
        self.tell(|| format!("{given_up:?}"));
    }

    fn close(&mut self, at: usize) {
        let Some(stream) = self.handle(at) else { return };
        let failed = self.random.one_in(2);
        self.tell(|| format!("close {at}, failed {failed}"));
        let ledger = &mut self.streams[at].ledger;
        ledger.close(failed);
        if failed {
            assert_eq!(stream.close_failed(), ledger.failed);
        } else {
            stream.close();
        }
    }

    /// For a stream that is about to be removed.
    fn note_size(&mut self, at: usize) {
        let capacity = self.handle(at).map_or(0, |stream| stream.stat().capacity);
        let attached = &mut self.streams[at];
        attached.kept = attached.ledger.heap_bytes(capacity);
    }

    fn remove(&mut self, at: usize) {
        if self.streams[at].ledger.removed {
            return;
        }
        self.note_size(at);
        let Attached { name, ledger, .. } = &mut self.streams[at];
        assert!(self.registry.remove(name), "the registry has it");
        ledger.removed = true;
        self.tell(|| format!("remove {at}"));
    }

    /// Changes how much memory there may be.
    fn limit(&mut self, _: usize) {
        let max_memory = match self.random.below(3) {
            0 => u64::MAX,
            1 => 4096 + self.random.size(512 << 10),
            _ => (300 << 10) + self.random.below(1 << 20),
        };
        let descriptors = self.random.of([u64::MAX, 1, 0]);
        self.tell(|| format!("limit {max_memory} {descriptors}"));
        self.is_limited |= max_memory < u64::MAX || descriptors < u64::MAX;
        self.registry.set_limits(Limits { max_streams: 2, max_memory }, descriptors);
    }

    /// What holds after every step.
    fn check(&mut self) {
        (0..self.streams.len()).for_each(|at| self.check_stream(at));
        self.streams.retain(|it| !it.ledger.removed || !it.readers.is_empty() || !it.writers.is_empty());
        self.check_memory();
    }

    /// What is counted is what the streams take, and the small rings of removed ones. Readers may also have rings that their stream
    /// has left.
    fn check_memory(&self) {
        let counted = self.registry.memory();
        let taken = |at| self.handle(at).map_or(self.streams[at].kept, |stream| stream.stat().memory);
        let taken: u64 = (0..self.streams.len()).map(taken).sum();
        if self.streams.iter().all(|it| it.readers.is_empty()) {
            assert_eq!(counted, taken, "bytes are counted, and are taken");
        } else {
            assert!(counted >= taken, "{counted} bytes are counted, and {taken} are taken");
        }
    }

    fn check_stream(&self, at: usize) {
        let stat = self.handle(at).map(|stream| stream.stat());
        let Attached { ledger, readers, writers, .. } = &self.streams[at];
        if let Some(stat) = &stat {
            ledger.check(stat);
            assert_eq!((stat.readers.len(), stat.writers.len()), (readers.len(), writers.len()));
        }
        for reader in readers {
            reader.check_with(ledger, stat.as_ref());
        }
        for writer in writers {
            let Writing::Waiting(waiting) = writer else { continue };
            if waiting.is_woken() {
                continue;
            }
            let stat = stat.as_ref().filter(|_| !ledger.closed);
            let capacity = stat.expect("it waits for a stream that takes nothing more").capacity;
            let needed = ledger.tail_after(capacity, waiting.chunk.len, 1);
            let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < needed;
            assert!(readers.iter().any(in_the_way), "a writer sleeps, and there is room");
        }
    }

    /// All read to the end, and go. Nothing is left of them.
    fn end(&mut self) {
        self.tell(|| "all read to the end".to_owned());
        for at in 0..self.streams.len() {
            self.read_to_the_end(at);
        }
        self.check();
        while !self.streams.is_empty() {
            let at = self.random.index(self.streams.len());
            let Attached { writers, readers, .. } = &mut self.streams[at];
            let (writers_left, readers_left) = (writers.len(), readers.len());
            if writers_left > 0 && (readers_left == 0 || self.random.one_in(2)) {
                writers.swap_remove(self.random.index(writers_left));
            } else if readers_left > 0 {
                let who = self.random.index(readers_left);
                self.drop_reader(at, who);
            } else {
                self.streams.swap_remove(at);
            }
        }
        let totals = self.registry.totals();
        assert_eq!(totals.written.local + totals.written.remote, self.written);
        let ByWay { shared, local, remote } = totals.read;
        let got = Got { delivered: shared + local + remote, lost: totals.lost_bytes };
        assert_eq!(got, self.got);
        assert_eq!(totals.given_up, self.given_up);
        for name in ["a", "b"] {
            self.registry.remove(name);
        }
        assert_eq!(self.registry.memory(), 0, "memory that was not given back");
    }

    /// Readers read what there is, and those who have come to an end go; writers that waited for them go on.
    fn read_to_the_end(&mut self, at: usize) {
        loop {
            let head = self.streams[at].ledger.head();
            self.poll_writers(at);
            let mut progress = self.streams[at].ledger.head() > head;
            for who in (0..self.streams[at].readers.len()).rev() {
                let Attached { readers, ledger, .. } = &self.streams[at];
                let reader = &readers[who];
                if reader.is_over() {
                    self.drop_reader(at, who);
                    progress = true;
                } else if reader.has_news(ledger) {
                    let most = self.random.size(64 << 10) as usize;
                    self.read_once(at, who, most);
                    progress = true;
                }
            }
            self.check_stream(at);
            if !progress {
                break;
            }
        }
        let Attached { readers, writers, ledger, .. } = &self.streams[at];
        assert!(writers.iter().all(|writer| matches!(writer, Writing::Idle(_))), "a writer waits for nobody");
        for reader in readers {
            assert_eq!(reader.place.settled, ledger.head(), "not all was read");
        }
    }
}
