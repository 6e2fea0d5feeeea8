//! Random faults on the way from the owner to the edge: delays, stalls, cuts and resets of both
//! links, and in each round one or two daemons that are killed or stopped at a random moment.
//!
//! Every reader must print the owner's bytes at the owner's offsets and report exactly which it
//! lost, and its exit code must be that of what happened to it. While the owner's ring holds the
//! whole stream, nothing may be lost. When a writer at a daemon that mounts its stream succeeds, the
//! owner must have all its bytes.
//!
//! `PFS_TEST_SEED` repeats the round that a failure names; processes race, so the failure may need
//! several runs. `PFS_TEST_SECONDS` makes a run longer.

#![allow(clippy::print_stderr, reason = "a failure names its round")]

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use harness::{
    Appender, Direction, Finished, Link, Random, Running, Signal, Transport, digest, eventually,
    gaps, kept, noise, variable,
};

use super::{
    attached,
    chain::{AT_OWNER, Chain, Place},
    start_of,
};

/// What happens to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blow {
    kind: Kind,
    place: Place,
    /// The steps at which it begins and ends.
    begins: u64,
    ends: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The daemon is killed, and another one takes its place at the end.
    Kill,
    /// The daemon stands still until the end.
    Stop,
}

/// The first blow of each round. Consecutive seeds have consecutive ones.
const FIRST: [(Kind, Place); 6] = [
    (Kind::Kill, Place::Owner),
    (Kind::Kill, Place::Middle),
    (Kind::Kill, Place::Edge),
    (Kind::Stop, Place::Owner),
    (Kind::Stop, Place::Middle),
    (Kind::Stop, Place::Edge),
];

/// Minimum number of rounds: each of [`FIRST`] twice.
const ROUNDS: u64 = 2 * FIRST.len() as u64;

/// Number of steps of a round, and those in which blows begin.
const STEPS: u64 = 24;
const FIRST_BLOW: u64 = 4;
const LAST_BLOW: u64 = 16;

impl Blow {
    fn new(random: &mut Random, (kind, place): (Kind, Place)) -> Self {
        let begins = FIRST_BLOW + random.below(LAST_BLOW - FIRST_BLOW);
        let ends = begins + 1 + random.below(STEPS - LAST_BLOW - 1);
        Self { kind, place, begins, ends }
    }
}

/// Maximum number of readers, besides those that replace others after a kill.
const READERS: usize = 12;

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn whatever_happens_on_the_way_every_byte_is_delivered_at_its_offset_or_in_a_gap() {
    let time = Duration::from_secs(variable("PFS_TEST_SECONDS").unwrap_or(0));
    let (begin, fixed) = (Instant::now(), variable("PFS_TEST_SEED"));
    let first = fixed.unwrap_or_else(|| Random::from_the_system().number());
    let least = if fixed.is_some() { 1 } else { ROUNDS };
    eprintln!("the seeds of the rounds begin with {first}");
    let mut longest = (Duration::ZERO, first);
    let (mut rounds, mut outcomes) = (0, BTreeMap::new());
    while rounds < least || begin.elapsed() < time {
        let seed = if fixed.is_some() { first } else { first.wrapping_add(rounds) };
        let _named = Named { seed, rounds };
        let begun = Instant::now();
        for outcome in Round::run(seed) {
            *outcomes.entry(outcome).or_insert(0) += 1;
        }
        longest = longest.max((begun.elapsed(), seed));
        rounds += 1;
    }
    eprintln!("{rounds} rounds in {} s; exit codes: {outcomes:?}", begin.elapsed().as_secs());
    eprintln!("the longest round took {} s, with seed {}", longest.0.as_secs(), longest.1);
}

/// Prints the seed of the round when the round fails.
struct Named {
    seed: u64,
    rounds: u64,
}

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, rounds } = self;
            eprintln!(
                "after {rounds} rounds, seed {seed} failed; PFS_TEST_SEED={seed} scripts/soak machines repeats it"
            );
        }
    }
}

/// A reader or a writer, and its exit code.
type Outcome = (&'static str, i32);

struct Reader {
    running: Running,
    place: Place,
    transport: Transport,
    /// Whether the daemon that this reader reads from was killed.
    daemon_was_killed: bool,
}

/// A writer of a stream of its own, at a daemon that mounts it.
struct Writer {
    running: Running,
    /// Path of the stream at the owner.
    stream: String,
    data: Vec<u8>,
    /// Number of owners so far.
    owners: usize,
}

struct Round {
    random: Random,
    chain: Chain,
    /// One or two, to different daemons. They may overlap.
    blows: Vec<Blow>,
    /// Size of the owner's ring, in bytes.
    ring: u64,
    /// `None` while the owner cannot answer.
    appender: Option<Appender>,
    /// The contents of the streams at the owner, of which each has ended with an owner. The last
    /// one is that of the running owner.
    contents: Vec<Vec<u8>>,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
}

impl Round {
    fn run(seed: u64) -> Vec<Outcome> {
        let mut random = Random::new(seed);
        let first = FIRST[(seed % FIRST.len() as u64) as usize];
        let mut blows = vec![Blow::new(&mut random, first)];
        let second = random.of(FIRST);
        if second.1 != first.1 {
            blows.push(Blow::new(&mut random, second));
        }
        let ring = random.of([64 * 1024, 256 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024]);
        let chain = Chain::with_links(|link| delay(link, &mut random));
        if random.one_in(2) {
            chain.network.limit_rate(20);
        }
        let (contents, readers, writers) = (Vec::new(), Vec::new(), Vec::new());
        let mut round =
            Self { random, chain, blows, ring, appender: None, contents, readers, writers };
        round.begin_stream();
        for place in [Place::Middle, Place::Edge, Place::Edge] {
            round.add_reader(place);
        }
        round.readers.iter_mut().for_each(|reader| attached(&mut reader.running));
        for step in 0..STEPS {
            for blow in round.blows.clone() {
                if step == blow.begins {
                    round.begin(blow);
                }
                if step == blow.ends {
                    round.end_of(blow);
                }
            }
            round.step();
        }
        round.end()
    }

    /// Creates the stream at the owner, and a writer.
    fn begin_stream(&mut self) {
        self.chain.owner.create_with_buffers(AT_OWNER, self.ring, self.ring);
        self.appender = Some(self.chain.owner.appender(AT_OWNER));
        self.contents.push(Vec::new());
    }

    fn append(&mut self) {
        let most = self.random.of([1, 1000, 50_000, 400_000]);
        let bytes = noise(self.random.number(), 1 + self.random.below(most) as usize);
        let chunk = 1 + self.random.below(self.ring.min(32 * 1024)) as usize;
        if let (Some(appender), Some(contents)) = (&mut self.appender, self.contents.last_mut()) {
            appender.append(&bytes, chunk.max(bytes.len() / 500));
            contents.extend(bytes);
        }
    }

    fn add_reader(&mut self, place: Place) {
        let transport = self.random.of(Transport::ALL);
        let running = self.chain.start_reader(place, transport, []);
        self.readers.push(Reader { running, place, transport, daemon_was_killed: false });
    }

    fn add_writer(&mut self) {
        let (place, transport) =
            (self.random.of([Place::Middle, Place::Edge]), self.random.of(Transport::ALL));
        let number = self.writers.len();
        let data = noise(self.random.number(), 1 + self.random.below(400_000) as usize);
        let write = self.chain.daemon(place).pfs_on(transport, ["write", "--stream"]);
        let write = write.arg(place.mount().to_owned() + &format!("/w{number}"));
        let running = self.chain.start(place, write.stdin(&*data));
        let (stream, owners) = (format!("/streamfs/w{number}"), self.contents.len());
        self.writers.push(Writer { running, stream, data, owners });
    }

    fn step(&mut self) {
        self.append();
        let number = self.random.below(self.chain.links.len() as u64) as usize;
        let link = &self.chain.links[number];
        match self.random.below(16) {
            0 | 1 => link.cut(),
            2 | 3 => link.reset(),
            4 => {
                delay(link, &mut self.random);
                link.cut();
            }
            5 | 6 => {
                let direction = self.random.of([Direction::ToDaemon, Direction::ToClient]);
                link.stall(Some(direction));
            }
            7 | 8 => link.stall(None),
            9 | 10 if self.readers.len() < READERS => {
                let place = self.random.of([Place::Middle, Place::Edge]);
                self.add_reader(place);
            }
            11 | 12 => self.add_writer(),
            _ => {}
        }
        // A random pause, so that the faults overtake the bytes at random.
        sleep(Duration::from_micros(self.random.below(100_000)));
    }

    fn begin(&mut self, Blow { kind, place, .. }: Blow) {
        if place == Place::Owner {
            self.appender = None;
        }
        match kind {
            Kind::Stop => self.chain.signal(place, Signal::STOP),
            Kind::Kill => {
                self.chain.kill9(place);
                let there = self.readers.iter_mut().filter(|reader| reader.place == place);
                there.for_each(|reader| reader.daemon_was_killed = true);
            }
        }
    }

    fn end_of(&mut self, Blow { kind, place, .. }: Blow) {
        match kind {
            Kind::Stop => self.chain.signal(place, Signal::CONT),
            Kind::Kill => self.chain.restart(place),
        }
        match (kind, place) {
            (Kind::Kill, Place::Owner) => self.begin_stream(),
            (Kind::Stop, Place::Owner) => {
                self.appender = Some(self.chain.owner.appender(AT_OWNER));
            }
            (Kind::Kill, _) => self.add_reader(place),
            (Kind::Stop, _) => {}
        }
    }

    /// Ends all faults, closes the stream and checks all readers and writers.
    fn end(mut self) -> Vec<Outcome> {
        self.chain.links.iter().for_each(|link| link.stall(None));
        self.append();
        let writers = std::mem::take(&mut self.writers).into_iter();
        let mut outcomes: Vec<Outcome> =
            writers.map(|writer| ("writer", self.check_writer(writer))).collect();
        for reader in &mut self.readers {
            eventually("the reader is attached, or has ended", || {
                !reader.running.runs() || start_of(&reader.running.stderr()).is_some()
            });
        }
        self.append();
        self.chain.owner.close(AT_OWNER);
        let readers = std::mem::take(&mut self.readers);
        outcomes.extend(readers.into_iter().map(|reader| ("reader", self.check(reader))));
        for place in Place::ALL {
            let log = self.chain.daemon(place).log();
            assert!(!log.contains("panicked") && !log.contains("corrupt"), "{log}");
        }
        outcomes
    }

    /// A writer that succeeded has everything at the owner, and any other one a part of it.
    #[track_caller]
    fn check_writer(&self, Writer { running, stream, data, owners }: Writer) -> i32 {
        let run = running.finish();
        assert!([0, 5].contains(&run.code), "{}: {}", run.code, run.stderr);
        if owners < self.contents.len() {
            return run.code;
        }
        let cat = self.chain.owner.pfs(["cat", "--stream", "--until", "caught-up", &stream]).run();
        let code = run.code;
        match code {
            0 => assert_eq!(digest(&cat.exits(0).stdout), digest(&data), "{stream}"),
            _ => assert!(data.starts_with(&cat.stdout), "{stream}: {}", run.stderr),
        }
        code
    }

    #[track_caller]
    fn check(&self, reader: Reader) -> i32 {
        let Reader { running, place, transport, daemon_was_killed } = reader;
        let run = running.finish();
        let about = format!("{transport:?} reader at {place:?}: {}: {}", run.code, run.stderr);
        let Some(start) = start_of(&run.stderr) else {
            // A reader that comes while a link or a daemon is down does not wait for it.
            assert!(run.code == 5 && run.stdout.is_empty(), "{about}");
            return run.code;
        };
        let lost = gaps(&run.stderr);
        let (last, before) = self.contents.split_last().unwrap();
        let of = |contents: &&Vec<u8>| is_part(&run, start, contents);
        match run.code {
            0 | 4 => {
                assert_eq!(run.code == 4, !lost.is_empty(), "{about}");
                assert_eq!(digest(&run.stdout), digest(&kept(last, start, &lost)), "{about}");
            }
            // The stream was removed with its owner.
            7 => assert!(before.iter().any(|contents| of(&contents)), "{about}"),
            // Over HTTP, a reader goes on with the next daemon.
            5 => assert!(daemon_was_killed && self.contents.iter().any(|all| of(&all)), "{about}"),
            _ => panic!("{about}"),
        }
        if daemon_was_killed && transport != Transport::Http {
            // The stream may have been removed just before.
            assert!([5, 7].contains(&run.code), "{about}");
        }
        if self.contents.iter().all(|contents| contents.len() as u64 <= self.ring) {
            assert_eq!(lost, [], "{about}");
        }
        run.code
    }
}

/// Gives the later connections of a link a random delay in each direction.
fn delay(link: &Link, random: &mut Random) {
    for direction in [Direction::ToDaemon, Direction::ToClient] {
        link.delay(direction, Duration::from_millis(random.of([0, 0, 1, 5, 20, 50])));
    }
}

/// Whether a reader that was not attached until the end of the stream has printed its bytes, each at
/// its offset.
fn is_part(run: &Finished, start: u64, contents: &[u8]) -> bool {
    let (mut position, mut rest) = (start as usize, &run.stdout[..]);
    for gap in gaps(&run.stderr) {
        let (from, to) = (gap.from as usize, gap.to as usize);
        let part = from.checked_sub(position).and_then(|len| rest.split_at_checked(len));
        let Some((part, after)) = part else { return false };
        if contents.get(position..from) != Some(part) {
            return false;
        }
        (position, rest) = (to, after);
    }
    contents.get(position..position + rest.len()) == Some(rest)
}
