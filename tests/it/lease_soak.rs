//! Random leases: a writer that holds the lease most of the time, others that append now and then,
//! and readers of every kind. All of them, and the daemon, are stopped, continued or killed at
//! random moments.
//!
//! A `block` reader that is attached from the start must get every acknowledged byte of every
//! writer once, and the bytes of each writer in order. Every other reader must get the same bytes
//! or report exactly which of them it lost. If the daemon was killed, the readers' outputs are
//! parts of a prefix of these bytes, and all exit codes report the loss of the daemon.
//!
//! `PFS_TEST_SEED` repeats the round that a failure names; processes race, so the failure may need
//! several runs. `PFS_TEST_SECONDS` makes a run longer.

#![allow(clippy::print_stderr, reason = "a failure names its round")]

use std::{
    io::Write as _,
    process::ChildStdin,
    sync::mpsc::{Sender, channel},
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use harness::{
    Daemon, Random, Running, Signal, Transport, digest, eventually, gaps, kept, noise, variable,
};

const S: &str = "/streamfs/s";

/// Minimum number of rounds, and maximum number of rounds until one had a lease. Whether a round
/// has a lease depends on chance.
const ROUNDS: u32 = 3;
const ROUNDS_FOR_A_LEASE: u32 = 30;

#[test]
fn whatever_happens_to_a_holder_and_to_others_every_byte_is_delivered_once_or_in_a_gap() {
    let time = Duration::from_secs(variable("PFS_TEST_SECONDS").unwrap_or(0));
    let (begin, fixed) = (Instant::now(), variable("PFS_TEST_SEED"));
    let mut seeds = Random::from_the_system();
    let first = fixed.unwrap_or_else(|| seeds.number());
    let each =
        if fixed.is_some() { "each round has seed" } else { "the seeds of the rounds begin with" };
    eprintln!("{each} {first}");
    let (mut rounds, mut leases, mut with_leases, mut killed) = (0, 0, 0, 0);
    let mut longest = (Duration::ZERO, first);
    while rounds < ROUNDS || begin.elapsed() < time || leases == 0 && rounds < ROUNDS_FOR_A_LEASE {
        let seed = if fixed.is_some() { first } else { first.wrapping_add(u64::from(rounds)) };
        let _named = Named { seed, rounds };
        let round_began = Instant::now();
        let outcome = Round::run(seed);
        longest = longest.max((round_began.elapsed(), seed));
        leases += outcome.leases;
        with_leases += u32::from(outcome.leases > 0);
        killed += u32::from(outcome.daemon_was_killed);
        rounds += 1;
    }
    eprintln!(
        "{rounds} rounds in {} s, {leases} leases seen in {with_leases} of them; the daemon was killed in {killed}",
        begin.elapsed().as_secs()
    );
    eprintln!("the longest round took {} s, with seed {}", longest.0.as_secs(), longest.1);
    assert!(leases > 0, "no writer had a lease in {rounds} rounds");
}

/// Prints the seed of the round when the round fails.
struct Named {
    seed: u64,
    rounds: u32,
}

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, rounds } = self;
            eprintln!(
                "after {rounds} rounds, seed {seed} failed; PFS_TEST_SEED={seed} scripts/soak lease repeats it"
            );
        }
    }
}

/// Number of concurrent writers. Writers of the same slot run one after the other. The two upper
/// bits of each byte are the slot.
const SLOTS: u8 = 3;

/// Maximum number of chunks that a writer is given at a time.
const MOST_CHUNKS: u64 = 4000;

/// Writer, and the bytes that it was given.
struct Writer {
    slot: u8,
    transport: Transport,
    running: Running,
    /// Size of the chunks, in bytes.
    chunk: u64,
    pieces: Sender<Vec<u8>>,
    feeding: JoinHandle<Option<ChildStdin>>,
    given: Vec<u8>,
}

/// A writer that has ended.
struct Left {
    slot: u8,
    transport: Transport,
    pid: u32,
    given: Vec<u8>,
    /// False if the writer was killed: only a part of its bytes is in the stream.
    finished: bool,
}

impl Writer {
    fn start(slot: u8, random: &mut Random, daemon: &Daemon, ring: u64) -> Self {
        let transport = if slot == 0 { Transport::Shm } else { random.of(Transport::ALL) };
        let chunk = (1 + {
            let most = random.of([16, 100, 5000, 64 * 1024, 1024 * 1024]);
            random.below(most)
        })
        .min(ring);
        let size = chunk.to_string();
        let lines: &[&str] = if slot == 0 && random.one_in(4) { &["--lines"] } else { &[] };
        let write = daemon.pfs_on(transport, ["-q", "write", "--stream", "--chunk-size", &size]);
        let mut running = write.args(lines).arg(S).stdin_pipe().spawn();
        let mut stdin = running.take_stdin();
        let (pieces, fed) = channel::<Vec<u8>>();
        let feeding = std::thread::spawn(move || {
            for piece in fed {
                // A killed writer reads no more.
                stdin.write_all(&piece).ok()?;
            }
            Some(stdin)
        });
        Self { slot, transport, running, chunk, pieces, feeding, given: Vec::new() }
    }

    /// Gives the writer up to `len` bytes. The number of chunks is limited: with chunks of one
    /// byte, a megabyte takes half a minute.
    fn give(&mut self, random: &mut Random, len: usize) {
        let len = len.min((MOST_CHUNKS * self.chunk) as usize);
        let mut bytes = noise(random.number(), len);
        for byte in &mut bytes {
            *byte = self.slot << 6 | *byte & 0x3f;
        }
        // Line ends, after which a writer with `--lines` cuts.
        if self.slot == 0 {
            bytes.iter_mut().step_by(100).for_each(|byte| *byte = b'\n');
        }
        self.given.extend_from_slice(&bytes);
        let _ = self.pieces.send(bytes);
    }

    fn kill(self) -> Left {
        let pid = self.running.pid();
        self.running.signal(Signal::KILL);
        assert_eq!(self.running.finish_with_input().code, 137);
        drop(self.pieces);
        drop(self.feeding.join().unwrap());
        Left { slot: self.slot, transport: self.transport, pid, given: self.given, finished: false }
    }

    /// Waits until the writer has noticed that the daemon is gone.
    #[track_caller]
    fn loses_its_daemon(self) -> Left {
        let pid = self.running.pid();
        self.running.finish_with_input().exits(GONE);
        drop(self.pieces);
        drop(self.feeding.join().unwrap());
        Left { slot: self.slot, transport: self.transport, pid, given: self.given, finished: false }
    }

    #[track_caller]
    fn finish(self) -> Left {
        drop(self.pieces);
        let stdin = self.feeding.join().unwrap().expect("a writer that nobody killed takes all");
        drop(stdin);
        let pid = self.running.pid();
        self.running.finish_with_input().exits(0).quietly();
        Left { slot: self.slot, transport: self.transport, pid, given: self.given, finished: true }
    }
}

struct Reader {
    running: Running,
    policy: &'static str,
}

impl Reader {
    fn start(random: &mut Random, daemon: &Daemon) -> Self {
        let policy = random.of(["drop", "drop", "block", "disconnect"]);
        Self::new(random.of(Transport::ALL), policy, daemon)
    }

    fn new(transport: Transport, policy: &'static str, daemon: &Daemon) -> Self {
        let command = daemon.pfs_on(transport, ["-v", "cat", "--stream", "--slow", policy, S]);
        Self { running: command.spawn(), policy }
    }

    /// Returns the start offset that the reader reports.
    fn start_offset(stderr: &str) -> Option<usize> {
        let (_, rest) = stderr.split_once("from offset ")?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        rest[..end].parse().ok()
    }

    /// Waits until the reader has noticed that the daemon is gone. Returns the parts of its output
    /// with their offsets. `start` is the offset of the first part; if it is `None`, the reader's
    /// own message is used.
    #[track_caller]
    fn loses_its_daemon(self, start: Option<usize>) -> Vec<(usize, Vec<u8>)> {
        let policy = self.policy;
        let run = self.running.finish();
        let is_slow = policy == "disconnect" && run.code == 6;
        assert!(run.code == GONE || is_slow, "{policy} ended with {}: {}", run.code, run.stderr);
        let gaps = gaps(&run.stderr);
        assert!(policy == "drop" || gaps.is_empty(), "{policy}: {}", run.stderr);
        let Some(mut position) = start.or_else(|| Self::start_offset(&run.stderr)) else {
            assert!(
                run.stdout.is_empty(),
                "{policy} got something and was never attached: {}",
                run.stderr
            );
            return Vec::new();
        };
        let (mut parts, mut rest) = (Vec::new(), &run.stdout[..]);
        for gap in gaps {
            let (from, to) = (gap.from as usize, gap.to as usize);
            let part = from.checked_sub(position).and_then(|len| rest.split_at_checked(len));
            let Some((part, after)) = part else { panic!("{policy} got less: {}", run.stderr) };
            parts.push((position, part.to_vec()));
            (position, rest) = (to, after);
        }
        parts.push((position, rest.to_vec()));
        parts
    }

    /// Compares the output of the reader with the contents of the stream.
    #[track_caller]
    fn check(self, all: &[u8]) {
        let policy = self.policy;
        let run = self.running.finish();
        let gaps = gaps(&run.stderr);
        let start =
            Self::start_offset(&run.stderr).unwrap_or_else(|| panic!("{policy}: {}", run.stderr));
        let allowed: &[i32] = match policy {
            "drop" if gaps.is_empty() => &[0],
            "drop" => &[4],
            "block" => &[0],
            _ => &[0, 6],
        };
        assert!(allowed.contains(&run.code), "{policy} ended with {}: {}", run.code, run.stderr);
        assert!(policy == "drop" || gaps.is_empty(), "{policy}: {}", run.stderr);
        let expected = kept(all, start as u64, &gaps);
        match run.code {
            6 => {
                assert!(expected.starts_with(&run.stdout), "{policy}: other bytes; {}", run.stderr)
            }
            _ => assert_eq!(
                digest(&run.stdout),
                digest(&expected),
                "{policy} from {start}: {}",
                run.stderr
            ),
        }
    }
}

struct Round {
    random: Random,
    daemon: Daemon,
    ring: u64,
    writers: Vec<Writer>,
    left: Vec<Left>,
    readers: Vec<Reader>,
    /// Stopped processes.
    stopped: Vec<u32>,
    daemon_is_stopped: bool,
    /// Process that held the lease at the last check.
    holder: Option<u64>,
    leases: u32,
}

/// Result of a round.
struct Outcome {
    /// How often a writer was seen with a new lease.
    leases: u32,
    daemon_was_killed: bool,
}

/// Exit code of clients whose daemon is gone.
const GONE: i32 = 5;

impl Round {
    fn run(seed: u64) -> Outcome {
        let mut random = Random::new(seed);
        let daemon = Transport::Shm.daemon_with_http();
        let ring =
            random.of([64 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024]);
        daemon.create_with_buffers(S, ring, ring);
        let reference = random.of(Transport::ALL);
        let reference = daemon.reader_on(reference, S, ["-q", "--slow", "block"]);
        let (writers, left, readers, stopped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (daemon_is_stopped, holder, leases) = (false, None, 0);
        let mut round = Self {
            random,
            daemon,
            ring,
            writers,
            left,
            readers,
            stopped,
            daemon_is_stopped,
            holder,
            leases,
        };
        let mut first = Writer::start(0, &mut round.random, &round.daemon, ring);
        if !round.random.one_in(4) {
            // Enough for a lease.
            first.give(&mut round.random, 2 * 1024 * 1024);
        }
        round.writers.push(first);
        for _ in 0..20 + round.random.below(30) {
            round.step(reference.pid());
        }
        let (leases, daemon_was_killed) = (round.leases, round.random.one_in(4));
        if daemon_was_killed {
            round.lose_the_daemon(reference)
        } else {
            round.end(reference)
        }
        Outcome { leases, daemon_was_killed }
    }

    fn step(&mut self, reference: u32) {
        let most = self.random.of([1, 1000, 100_000, 1024 * 1024]);
        for writer in &mut self.writers {
            let len = self.random.below(if writer.slot == 0 { most } else { most / 8 + 1 });
            writer.give(&mut self.random, len as usize);
        }
        match self.random.below(20) {
            0 => {
                let number = self.random.below(self.writers.len() as u64) as usize;
                let writer = self.writers.swap_remove(number);
                self.stopped.retain(|pid| *pid != writer.running.pid());
                let slot = writer.slot;
                self.left.push(writer.kill());
                if slot == 0 {
                    self.add_next(0);
                }
            }
            1 | 2 => {
                let slot = 1 + self.random.below(u64::from(SLOTS) - 1) as u8;
                match self.writers.iter().position(|writer| writer.slot == slot) {
                    None => self.add_next(slot),
                    Some(number) => {
                        // Continue the stopped processes first: this writer may wait for one
                        // of them.
                        self.go_on();
                        let writer = self.writers.swap_remove(number);
                        self.left.push(writer.finish());
                    }
                }
            }
            3..=7 => {
                let pids: Vec<u32> = (self.writers.iter().map(|writer| &writer.running))
                    .chain(self.readers.iter().map(|reader| &reader.running))
                    .map(Running::pid)
                    .chain([reference])
                    .filter(|pid| !self.stopped.contains(pid))
                    .collect();
                if let Some(pid) = pids.get(self.random.below(pids.len().max(1) as u64) as usize)
                    && harness::alive(*pid)
                {
                    harness::kill(*pid, Signal::STOP);
                    self.stopped.push(*pid);
                }
            }
            8..=13 => self.go_on(),
            14 | 15 if self.readers.len() < 8 => {
                let reader = Reader::start(&mut self.random, &self.daemon);
                self.readers.push(reader);
            }
            16 if !self.readers.is_empty() => {
                let number = self.random.below(self.readers.len() as u64) as usize;
                let Reader { running, .. } = self.readers.swap_remove(number);
                self.stopped.retain(|pid| *pid != running.pid());
                running.signal(Signal::KILL);
            }
            17 if !self.daemon_is_stopped => {
                self.daemon.signal(Signal::STOP);
                self.daemon_is_stopped = true;
            }
            _ => {}
        }
        if !self.daemon_is_stopped {
            let stat = self.daemon.stat(S).unwrap();
            let writers = stat["writers"].as_array().unwrap();
            let holder = writers.iter().find(|writer| writer["leased"] == true);
            let holder = holder.and_then(|holder| holder["pid"].as_u64());
            self.leases += u32::from(holder.is_some() && holder != self.holder);
            self.holder = holder;
        }
        // A random pause, so that the actions overtake each other at random.
        sleep(Duration::from_micros(self.random.below(100_000)));
    }

    /// Starts the next writer of this slot once the daemon has read everything that the writers
    /// before it have sent: the bytes of a killed writer are still appended and would mix with the
    /// new ones. Over HTTP the test cannot tell when that is done, so a slot with a killed HTTP
    /// writer gets no further writer.
    fn add_next(&mut self, slot: u8) {
        let killed = || self.left.iter().filter(|left| left.slot == slot && !left.finished);
        if killed().any(|left| left.transport == Transport::Http) {
            return;
        }
        let killed: Vec<u64> = killed().map(|left| left.pid.into()).collect();
        if !killed.is_empty() {
            self.go_on();
            eventually("the daemon has noticed that a writer was killed", || {
                let stat = self.daemon.stat(S).unwrap();
                let mut attached = stat["writers"].as_array().unwrap().iter();
                attached
                    .all(|writer| writer["pid"].as_u64().is_none_or(|pid| !killed.contains(&pid)))
            });
        }
        let writer = Writer::start(slot, &mut self.random, &self.daemon, self.ring);
        self.writers.push(writer);
    }

    fn go_on(&mut self) {
        if std::mem::take(&mut self.daemon_is_stopped) {
            self.daemon.signal(Signal::CONT);
        }
        for pid in self.stopped.drain(..) {
            if harness::alive(pid) {
                harness::kill(pid, Signal::CONT);
            }
        }
    }

    /// Kills the daemon. No process may end as if all were well, and the outputs of all readers
    /// must be parts of one stream.
    fn lose_the_daemon(mut self, reference: Running) {
        if self.random.one_in(2) {
            self.go_on();
        }
        self.daemon.kill9();
        self.daemon_is_stopped = false;
        self.go_on();
        for writer in std::mem::take(&mut self.writers) {
            self.left.push(writer.loses_its_daemon());
        }
        let mut parts = Reader { running: reference, policy: "block" }.loses_its_daemon(Some(0));
        for reader in std::mem::take(&mut self.readers) {
            parts.extend(reader.loses_its_daemon(None));
        }
        parts.sort_by_key(|(from, _)| *from);
        let mut all: Vec<u8> = Vec::new();
        for (from, part) in parts {
            // No reader got the bytes in between.
            let Some(known) = all.get(from..) else { break };
            let common = known.len().min(part.len());
            assert_eq!(
                digest(&part[..common]),
                digest(&known[..common]),
                "from {from}, {common} bytes"
            );
            all.extend_from_slice(&part[common..]);
        }
        self.check_writers(&all, false);
    }

    fn end(mut self, reference: Running) {
        self.go_on();
        for writer in std::mem::take(&mut self.writers) {
            self.left.push(writer.finish());
        }
        let killed = self.left.iter().filter(|left| !left.finished).count();
        eventually("all writers have gone", || {
            self.daemon.stat(S).unwrap()["writers"] == serde_json::json!([])
        });
        let stat = self.daemon.stat(S).unwrap();
        assert_eq!(stat["writers_finished"], self.left.len() - killed, "{stat}");
        // All readers are attached.
        for reader in &mut self.readers {
            eventually("the reader is attached", || {
                Reader::start_offset(&reader.running.stderr()).is_some() || !reader.running.runs()
            });
        }
        self.daemon.close(S);
        let all = reference.finish().exits(0).quietly().stdout;
        assert_eq!(all.len(), self.daemon.head(S) as usize);
        self.check_writers(&all, true);
        for reader in self.readers {
            reader.check(&all);
        }
    }

    /// Compares the contents of the stream, or its prefix, with the input of the writers.
    #[track_caller]
    fn check_writers(&self, all: &[u8], is_whole: bool) {
        for slot in 0..SLOTS {
            let of_slot = |byte: u8| byte >> 6 == slot;
            let bytes: Vec<u8> = all.iter().copied().filter(|byte| of_slot(*byte)).collect();
            let writers: Vec<&Left> = self.left.iter().filter(|left| left.slot == slot).collect();
            assert!(
                are(&bytes, &writers, is_whole),
                "{} bytes of slot {slot} are not those that were given",
                bytes.len()
            );
        }
        let log = self.daemon.log();
        assert!(!log.contains("panicked") && !log.contains("corrupt"), "{log}");
    }
}

/// Returns true if `bytes` is the input of the writers, one after the other, where a killed
/// writer contributes only a prefix of its input. If `is_whole` is false, `bytes` may also be a
/// prefix of that.
fn are(bytes: &[u8], writers: &[&Left], is_whole: bool) -> bool {
    /// Maximum number of bytes that may match by chance.
    const CHANCE: usize = 32;
    let Some((writer, rest)) = writers.split_first() else { return bytes.is_empty() };
    if writer.finished {
        if !is_whole && bytes.len() < writer.given.len() {
            return writer.given.starts_with(bytes);
        }
        return bytes
            .strip_prefix(&writer.given[..])
            .is_some_and(|bytes| are(bytes, rest, is_whole));
    }
    let same = writer.given.iter().zip(bytes).take_while(|(given, got)| given == got).count();
    (same.saturating_sub(CHANCE)..=same).rev().any(|same| are(&bytes[same..], rest, is_whole))
}
