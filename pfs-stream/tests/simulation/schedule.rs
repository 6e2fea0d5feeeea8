//! One schedule: a registry, its streams, and writers and readers that a seed makes come, write,
//! read, pause, die and leave.

mod accounts;
#[cfg(all(target_os = "linux", not(miri)))]
mod elsewhere;
#[cfg(all(target_os = "linux", not(miri)))]
mod leases;
mod readers;
mod writers;

use pfs_stream::*;

use crate::{following::Following, ledger::Ledger, random::Random, writing::Writing};

/// The most readers of a stream at a time.
const READERS: usize = 6;
/// The most writers of a stream at a time.
const WRITERS: usize = 3;
/// The most bytes that are appended in a schedule, so that no schedule takes long.
const BYTES: u64 = 1024 * 1024;

/// Whether there are writers with leases.
const LEASES: bool = cfg!(all(target_os = "linux", not(miri)));

/// The least ring size of a large stream, in bytes. Such a ring holds more than one append copies
/// while the stream grows to full size.
const LARGE: u64 = 300 * 1024;

/// A stream, and its attached readers and writers.
struct Attached {
    name: &'static str,
    ledger: Ledger,
    writers: Vec<Writing>,
    readers: Vec<Following>,
    /// Holders whose writers have left, and that may still continue an append.
    #[cfg(all(target_os = "linux", not(miri)))]
    hands: Vec<(usize, crate::hand::Hand)>,
    /// The usual size of a chunk.
    usual: u64,
}

/// What readers that left had got, by their own account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    delivered: u64,
    lost: u64,
}

/// An action on a stream.
type Step = fn(&mut Schedule, usize);

struct Schedule {
    random: Random,
    registry: Registry,
    /// The streams in the registry, and removed streams that are still in use.
    streams: Vec<Attached>,
    /// Whether memory or descriptors were ever limited.
    is_limited: bool,
    /// Bytes of a ring that replaced a leased ring in the last step, whatever the limit.
    in_place: u64,
    max_descriptors: u64,
    /// Whether the schedule is mainly about readers in other processes, which follow streams that
    /// grow.
    is_followed: bool,
    /// Whether the schedule is mainly about leases.
    is_leased: bool,
    /// One in this many processes cannot follow its stream from ring to ring.
    cannot_follow: u64,
    /// Whether the system sometimes lacks descriptors.
    has_famines: bool,
    marks: u64,
    readers: u32,
    step: u64,
    written: u64,
    /// What readers that left had got.
    got: Got,
    given_up: u64,
    /// The ratio of appends to reads.
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
        let is_leased = LEASES && random.one_in(2);
        let is_followed = random.one_in(2);
        let max_memory = if random.one_in(2) || (is_followed || is_leased) && random.one_in(2) {
            u64::MAX
        } else {
            4096 + random.size(256 * 1024)
        };
        let descriptors = random.of([u64::MAX, u64::MAX, u64::MAX, 2, 1, 0]);
        let cannot_follow = if is_leased {
            random.of([16, 1000])
        } else if is_followed {
            random.of([8, 64])
        } else {
            random.of([1, 4, 64])
        };
        let has_famines = random.one_in(8);
        let pace = random.of([(1, 1), (1, 1), (1, 3), (3, 1), (10, 1)]);
        Self {
            registry: Registry::with_descriptors(
                Limits { max_streams: 2, max_memory },
                descriptors,
            ),
            random,
            streams: Vec::new(),
            is_limited: max_memory < u64::MAX || descriptors < u64::MAX,
            in_place: 0,
            max_descriptors: descriptors,
            is_followed,
            is_leased,
            cannot_follow,
            has_famines,
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

    #[allow(clippy::print_stderr, reason = "a replayed schedule is printed")]
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}: {}", self.step, what());
        }
    }

    fn step(&mut self) {
        let memory = self.registry.memory();
        self.in_place = 0;
        self.look_at_streams();
        let Some(at) = self.pick_stream() else { return self.create(0) };
        let (append, read) = self.pace;
        let leased = |weight| if self.is_leased { weight } else { 0 };
        let unless = |weight: u64, few| if self.is_leased { few } else { weight };
        let steps: [(u64, Step); 29] = [
            (100 * append, Self::append),
            (100 * read, Self::read),
            (20, Self::poll_writers),
            (unless(20, 12), Self::reader_joins),
            (unless(10, 1), Self::writer_joins),
            (unless(7, 3), Self::writer_ends),
            (leased(60), Self::offer),
            (leased(60), Self::grant),
            (leased(100 * append), Self::hold),
            (leased(30), Self::holder_says),
            (leased(20), Self::end_is_told),
            (leased(20), Self::resend),
            (leased(3), Self::holder_stops),
            (leased(15), Self::late_step),
            (leased(12), Self::catch_up),
            (leased(15), Self::intrude),
            (7, Self::reader_leaves),
            (7, Self::reader_pauses),
            (if self.is_followed { 50 } else { 20 }, Self::hand_out),
            (15, Self::ask),
            (15, Self::map),
            (3, Self::take_back),
            (6, Self::all_come_back),
            (7, Self::peek),
            (8, Self::give_up),
            (2, Self::create),
            (1, Self::close),
            (1, Self::remove),
            (unless(2, 3), Self::limit),
        ];
        let mut number = self.random.below(steps.iter().map(|(weight, _)| weight).sum());
        for (weight, step) in steps {
            if number < weight {
                step(self, at);
                break;
            }
            number -= weight;
        }
        let most = self.registry.limits().max_memory.max(memory).saturating_add(self.in_place);
        assert!(self.registry.memory() <= most, "the streams take more memory than the limit");
        self.check();
    }

    /// A random stream, if there is any. Seldom a removed one.
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
        is_there.then(|| self.registry.get(attached.name).expect("the registry has the stream"))
    }

    /// Creates a stream, perhaps in place of another one of its name. Readers may wait for it.
    fn create(&mut self, _: usize) {
        let name = if self.is_followed || self.is_leased {
            self.random.of(["a", "a", "a", "b"])
        } else {
            self.random.of(["a", "b"])
        };
        let is_followed = self.is_followed;
        let is_large = self.random.one_in(if self.is_leased {
            32
        } else if is_followed {
            8
        } else {
            16
        });
        let random = &mut self.random;
        let (ring, channel, usual) = if self.is_leased && !is_large {
            // Small rings, so that holders wrap around.
            let (ring, channel) = (256 + random.below(9000), 256 + random.below(9000));
            (ring, channel, random.of([30, 400, 1500]).min(ring.min(channel)))
        } else if is_large {
            let size = LARGE + random.below(1024 * 1024);
            (size, (64 * 1024) + random.below(1024 * 1024), random.size(32 * 1024))
        } else if is_followed && !random.one_in(4) || random.one_in(6) {
            // The stream has several shared rings while it grows to full size.
            let (ring, channel) =
                ((32 * 1024) + random.below(256 * 1024), 1024 + random.below(256 * 1024));
            (ring, channel, random.of([100, 700, 4000]))
        } else {
            let (ring, channel) =
                (255 + self.random.size(64 * 1024), 255 + self.random.size(64 * 1024));
            (ring, channel, self.random.size(ring.min(channel)))
        };
        let config = StreamConfig::default()
            .ring_buffer_size(ring)
            .channel_buffer_size(channel)
            .reserve(!is_large && !is_followed && self.random.one_in(4));
        let mut ledger = Ledger::new(config.clone());
        let found = self.streams.iter().position(|it| it.name == name && !it.ledger.removed);
        let replaces = found.is_some()
            && self.random.one_in(if is_followed || self.is_leased { 8 } else { 2 });
        let mut waiting = Vec::new();
        if found.is_none() {
            for _ in 0..self.random.below(3) {
                let (number, options) = (self.number(), Self::options(&mut self.random, &ledger));
                let pending =
                    self.registry.reader_when_created(name, options, Following::peer(number));
                waiting.push((number, options, pending));
            }
        }
        self.tell(|| format!("create {name} {config:?}, replaces {replaces}"));
        let made = if replaces {
            self.registry.replace_with(name, config, |_| ())
        } else {
            self.registry.create(name, config)
        };
        match made {
            Ok(stream) => {
                assert!(found.is_none() || replaces, "two streams have one name");
                ledger.rings.begin(&stream.stat());
            }
            Err(CreateError::Exists) => return assert!(found.is_some() && !replaces),
            Err(CreateError::TooMuchMemory { .. }) => return assert!(self.is_limited),
            Err(error) => panic!("{error}"),
        }
        if let Some(at) = found {
            self.streams[at].ledger.remove();
        }
        let mut readers = Vec::new();
        for (number, options, pending) in waiting {
            assert!(!pending.is_waiting());
            let attached = pollster::block_on(pending);
            readers.extend(Following::attached(attached, &ledger, number, options));
        }
        self.streams.push(Attached {
            name,
            ledger,
            writers: Vec::new(),
            readers,
            #[cfg(all(target_os = "linux", not(miri)))]
            hands: Vec::new(),
            usual,
        });
        if is_followed {
            // Before the stream grows.
            let at = self.streams.len() - 1;
            self.reader_joins(at);
            self.hand_out(at);
        }
    }

    /// Decides which streams are asked for their stats in this step. Streams with a lease are asked
    /// only now and then: their results must also be right if the stream is not looked at.
    fn look_at_streams(&mut self) {
        for at in 0..self.streams.len() {
            let is_leased =
                self.streams[at].ledger.is_leased() || self.streams[at].ledger.is_sealed();
            self.streams[at].ledger.is_looked_at = !is_leased || self.random.one_in(3);
        }
    }

    fn number(&mut self) -> u32 {
        self.readers += 1;
        self.readers
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

    fn remove(&mut self, at: usize) {
        if self.streams[at].ledger.removed {
            return;
        }
        let Attached { name, ledger, .. } = &mut self.streams[at];
        assert!(self.registry.remove(name), "the registry has the stream");
        ledger.remove();
        self.tell(|| format!("remove {at}"));
    }

    /// Changes the memory limit.
    fn limit(&mut self, _: usize) {
        let max_memory = match self.random.below(if self.is_leased { 5 } else { 3 }) {
            0 => u64::MAX,
            1 => 4096 + self.random.size(512 * 1024),
            // Less than a ring after a lease should have.
            3.. => self.registry.memory() + self.random.below(30_000),
            _ => (300 * 1024) + self.random.below(1024 * 1024),
        };
        let descriptors = self.random.of([u64::MAX, 1, 0]);
        self.tell(|| format!("limit {max_memory} {descriptors}"));
        self.is_limited |= max_memory < u64::MAX || descriptors < u64::MAX;
        self.max_descriptors = descriptors;
        self.registry.set_limits(Limits { max_streams: 2, max_memory }, descriptors);
    }

    /// Checks what must hold after every step.
    fn check(&mut self) {
        (0..self.streams.len()).for_each(|at| self.check_stream(at));
        self.streams
            .retain(|it| !it.ledger.removed || !it.readers.is_empty() || !it.writers.is_empty());
        self.check_memory();
        self.check_descriptors();
    }

    fn check_stream(&self, at: usize) {
        let is_looked_at = self.streams[at].ledger.is_looked_at;
        let stat = self.handle(at).filter(|_| is_looked_at).map(|stream| stream.stat());
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
            assert!(
                !ledger.closed && !ledger.removed,
                "a writer waits for a stream that takes no more appends"
            );
            let capacity = ledger.rings.ring(ledger.rings.current()).capacity;
            let needed = if ledger.is_sealed() {
                Some(ledger.held().head)
            } else {
                ledger.tail_after(capacity, waiting.chunk.len, 1)
            };
            let Some(needed) = needed else { continue };
            let in_the_way = |it: &Following| it.blocks() && it.place.chunk(ledger) < needed;
            assert!(readers.iter().any(in_the_way), "a writer sleeps although the ring has room");
        }
        self.check_leases(at);
    }

    /// All readers read to the end, and everyone leaves. Nothing may be left of them.
    fn end(&mut self) {
        self.tell(|| "all read to the end".to_owned());
        self.look_at_streams();
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
        let ByTransport { shm, unix, http } = totals.written;
        assert_eq!(shm + unix + http, self.written);
        let ByTransport { shm, unix, http } = totals.read;
        let got = Got { delivered: shm + unix + http, lost: totals.lost_bytes };
        assert_eq!(got, self.got);
        assert_eq!(totals.given_up, self.given_up);
        for name in ["a", "b"] {
            self.registry.remove(name);
        }
        assert_eq!(self.registry.memory(), 0, "memory was not returned");
    }

    /// Readers read what there is, and readers that have come to an end leave. Writers that waited
    /// for them continue.
    fn read_to_the_end(&mut self, at: usize) {
        loop {
            let head = self.streams[at].ledger.head();
            self.poll_writers(at);
            self.poll_rooms(at);
            // A writer that was refused one chunk has others to append, which nothing wakes it for.
            let is_due = |it: &Writing| matches!(it, Writing::Waiting(it) if it.is_woken());
            let mut progress = self.streams[at].ledger.head() > head
                || self.streams[at].writers.iter().any(is_due);
            for who in (0..self.streams[at].readers.len()).rev() {
                if self.follow(at, who) {
                    progress = true;
                    continue;
                }
                let Attached { readers, ledger, .. } = &self.streams[at];
                let reader = &readers[who];
                if reader.is_over() {
                    self.drop_reader(at, who);
                    progress = true;
                } else if reader.has_news(ledger) {
                    let most = self.random.size(64 * 1024) as usize;
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
        assert!(
            !writers.iter().any(|writer| matches!(writer, Writing::Waiting(_))),
            "a writer waits without a blocking reader"
        );
        for reader in readers {
            assert_eq!(reader.place.settled, ledger.head(), "a reader has not read to head");
        }
    }
}
