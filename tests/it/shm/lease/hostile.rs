//! Hostile holders, which write arbitrary words into the ring buffer of their lease: they can
//! corrupt the contents of their own stream and nothing else.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use harness::{Daemon, Signal, Transport, digest, eventually};
use pfs_proto::{ReadOptions, Reply, Request, SlowPolicy, WriteOptions};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{Fed, Held, MIB, holder, offered, other};
use crate::shm::{EndsAtDrop, S, is_unharmed};

const OTHER: &str = "/streamfs/other";

/// Words of a ring buffer, from `pfs-stream/src/ring/layout.rs`.
const TAIL: usize = 16;
const HEAD: usize = 32;
const STATUS: usize = 33;
const NOTIFY: usize = 48;
const FLOOR: usize = 64;
const READERS: usize = 65;
const PUBLISHED: usize = 80;
const ROOM: usize = 96;
/// First word of the index: the start and the time of each chunk, alternating.
const INDEX: usize = 512;
const WORDS: [usize; 11] =
    [0, TAIL, HEAD, STATUS, NOTIFY, FLOOR, READERS, PUBLISHED, ROOM, INDEX, INDEX + 1];

/// Ring buffer, mapped as its holder maps it.
struct Words {
    address: *mut std::ffi::c_void,
    bytes: usize,
}

// SAFETY: plain memory that belongs to no thread, and is accessible only as atomics.
#[allow(unsafe_code, reason = "there is no safe way to share memory")]
unsafe impl Send for Words {}
// SAFETY: the memory is accessible only as atomics, as for `Send`.
#[allow(unsafe_code, reason = "there is no safe way to share memory")]
unsafe impl Sync for Words {}

#[allow(unsafe_code, reason = "there is no safe way to share memory")]
impl Words {
    /// Maps the ring buffer. Must be called before the daemon forbids writable mappings.
    fn map(ring: impl AsFd) -> Self {
        let bytes = rustix::fs::fstat(ring.as_fd()).unwrap().st_size as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the mapping is at an address of the kernel's choice and is unmapped when this
        // value is dropped.
        let address =
            unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, ring, 0) }
                .unwrap();
        Self { address, bytes }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(8 * word < self.bytes);
        // SAFETY: the word is inside the mapping, which lives as long as `self`; all bit patterns
        // are valid.
        unsafe { &*self.address.cast::<AtomicU64>().add(word) }
    }
}

#[allow(unsafe_code, reason = "there is no safe way to share memory")]
impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and no borrow of it is left.
        unsafe { munmap(self.address, self.bytes) }.unwrap();
    }
}

#[track_caller]
fn held(daemon: &Daemon, stream: &str) -> (Held, Words) {
    let offered = offered(daemon, stream);
    let words = Words::map(&offered.ring);
    (offered.hold(), words)
}

#[test]
fn the_file_of_a_ring_cannot_be_written_once_its_lease_is_granted() {
    use rustix::io::Errno;
    let daemon = Daemon::start();
    let (client, words) = held(&daemon, S);
    assert_eq!(rustix::io::pwrite(&client.ring, b"x", 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&client.ring, 0), Err(Errno::PERM));
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert_eq!(rustix::fs::fallocate(&client.ring, hole, 0, 4096), Err(Errno::PERM));
    let head = words.word(HEAD).load(Ordering::Relaxed);
    assert_eq!(head, client.start.head.0);
}

/// Readers of all kinds and a second stream, which must not notice anything.
struct Bystanders {
    writer: Fed,
    readers: Vec<harness::Running>,
}

impl Bystanders {
    #[track_caller]
    fn start(daemon: &Daemon) -> Self {
        daemon.create_with_buffers(OTHER, MIB, MIB);
        let readers = Transport::ALL
            .map(|transport| daemon.reader_on(transport, OTHER, ["--slow", "block"]))
            .into();
        let writer = Fed::new(daemon.pfs(["-q", "write", "--stream", "--close", OTHER]));
        Self { writer, readers }
    }

    #[track_caller]
    fn go_on(&mut self, daemon: &Daemon) {
        self.writer.give(10_000);
        let given = self.writer.given.len() as u64;
        eventually("the other stream goes on", || daemon.head(OTHER) == given);
    }

    #[track_caller]
    fn end(self) {
        let data = self.writer.finish();
        for reader in self.readers {
            assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
        }
    }
}

#[test]
fn a_word_that_a_holder_corrupts_ends_at_most_its_lease_and_harms_only_its_own_stream() {
    let mut daemon = Transport::Shm.daemon_with_http();
    let mut bystanders = Bystanders::start(&daemon);
    let before = daemon.memory();
    let mut violations = 0;
    for word in WORDS {
        let good = |words: &Words| words.word(word).load(Ordering::Relaxed);
        let values: [fn(u64) -> u64; 8] = [
            |_| 0,
            |good| good.wrapping_sub(1),
            |good| good + 1,
            |good| good + 5000,
            |_| 1 << 62,
            |_| (1 << 63) - 1,
            |good| good | 1 << 63,
            |_| u64::MAX,
        ];
        for value in values {
            let create = daemon.pfs(["create", "--replace", "--ring-buffer-size", "1MB", S]);
            create.args(["--channel-buffer-size", "1MB"]).run().exits(0);
            let readers: Vec<_> = Transport::ALL
                .into_iter()
                .flat_map(|transport| ["block", "drop"].map(|policy| (transport, policy)))
                .map(|(transport, policy)| daemon.reader_on(transport, S, ["--slow", policy]))
                .collect();
            let (mut client, words) = held(&daemon, S);
            client.append(5000);
            let appended = client.appended.len() as u64;
            words.word(word).store(value(good(&words)), Ordering::SeqCst);
            client.wire.send(&Request::Published);
            // Requests, readers and writers that come now still get an answer.
            let stat = daemon.stat(S).unwrap();
            assert!(stat["head"].as_u64().unwrap() <= appended + (1 << 40), "word {word}: {stat}");
            client.holder.try_push(super::own(1, 3000)).and_then(|()| client.holder.publish()).ok();
            client.wire.send(&Request::Published);
            let joining = daemon.reader_on(Transport::Unix, S, ["--slow", "drop"]);
            let tail = daemon
                .pfs(["-q", "cat", "--stream", "--tail", "100", "--until", "caught-up", S])
                .run();
            // The word that tells how a stream ended is also in the ring buffer.
            assert!([0, 1, 4, 7, 8].contains(&tail.code), "word {word}: {tail:?}");
            client.wire.send(&Request::Flush);
            client.wire.send(&Request::NeedsRoom { up_to: u64::MAX });
            let last = other(3, 2000);
            let appends = daemon.pfs(["-q", "write", "--stream", S]).stdin(&last[..]).run();
            appends.exits(0);
            assert_eq!(holder(&daemon), None);
            let stat = daemon.stat(S).unwrap();
            assert!(
                stat["head"].as_u64().unwrap() <= appended + 3000 + (1 << 41),
                "word {word}: {stat}"
            );
            daemon.pfs(["close", S]).run().exits(0);
            drop((client, words));
            // Each reader ends, either with the holder's contents followed by the other writer's
            // bytes, or with an error of its own.
            for reader in readers.into_iter().chain([joining]) {
                let run = reader.finish();
                assert!([0, 1, 4, 5, 6, 7, 8].contains(&run.code), "word {word}: {run:?}");
            }
            let late = daemon.pfs(["-q", "cat", "--stream", S]).run();
            assert!(
                late.code == 0 && late.stdout.ends_with(&last),
                "word {word}: {}, {}",
                late.code,
                late.stderr
            );
            violations = daemon.log().matches("a writer corrupted the ring").count();
            bystanders.go_on(&daemon);
        }
    }
    assert!(violations > 10, "{violations} violations in the log: {}", daemon.log());
    bystanders.end();
    daemon.remove(S);
    is_unharmed(&mut daemon, before);
}

#[test]
fn rings_that_their_holders_scribble_on_all_the_time_disturb_nobody_else() {
    let mut daemon = Transport::Shm.daemon_with_http();
    let mut bystanders = Bystanders::start(&daemon);
    let before = daemon.memory();
    for round in 0_u64..12 {
        let create = daemon.pfs(["create", "--replace", "--ring-buffer-size", "256KB", S]);
        create.args(["--channel-buffer-size", "256KB"]).run().exits(0);
        let readers: Vec<_> = Transport::ALL
            .into_iter()
            .map(|transport| daemon.reader_on(transport, S, ["--slow", "drop"]))
            .collect();
        let (mut client, words) = held(&daemon, S);
        let enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = EndsAtDrop(&enough);
            let (words, enough) = (&words, &enough);
            scope.spawn(move || {
                let mut random = harness::Random::new(round);
                while !enough.load(Ordering::Relaxed) {
                    let at = match random.below(3) {
                        0 => random.of(WORDS),
                        1 => INDEX + random.below(4096) as usize,
                        _ => random.of([TAIL, HEAD]),
                    };
                    let good = words.word(at).load(Ordering::Relaxed);
                    let value = match random.below(6) {
                        0 => random.number(),
                        1 => good.wrapping_add(random.below(3)),
                        2 => good.wrapping_sub(random.below(3)),
                        3 => good & !(1 << 63),
                        4 => good.wrapping_add(1 << random.below(20)),
                        _ => 0,
                    };
                    words.word(at).store(value, Ordering::Relaxed);
                }
            });
            for number in 0..10 {
                client.wire.send(&Request::Published);
                daemon.stat(S).unwrap();
                let options = ReadOptions {
                    policy: [SlowPolicy::Drop, SlowPolicy::Block][(number % 2) as usize],
                    ..ReadOptions::default()
                };
                let mut joining = daemon.wire().greeted();
                joining.send(&Request::OpenReader(S.parse().unwrap(), options));
                assert!(matches!(joining.reply(), Some(Reply::Reading { .. })));
            }
            let mut second = daemon.wire().greeted();
            second.send(&Request::OpenWriter(S.parse().unwrap(), WriteOptions::default()));
            second.send(&Request::Append(Bytes::from(other(round, 1000))));
            second.send(&Request::Finish { close: true });
            assert_eq!(second.refusal(), None, "another writer");
        });
        for reader in readers {
            let run = reader.finish();
            assert!([0, 1, 4, 5, 6, 7, 8].contains(&run.code), "{run:?}");
        }
        bystanders.go_on(&daemon);
        drop(client);
    }
    bystanders.end();
    daemon.remove(S);
    is_unharmed(&mut daemon, before);
}

#[test]
fn a_former_holder_cannot_keep_readers_in_the_ring_that_the_stream_has_left() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, MIB, MIB);
    let reader = daemon.reader_on(Transport::Shm, S, []);
    let (client, words) = held(&daemon, S);
    let all = client.appended.len() as u64;
    eventually("it has read all", || reader.stdout_len() == all);
    reader.signal(Signal::STOP);
    let good = words.word(STATUS).load(Ordering::Relaxed);
    daemon.append(S, other(1, 1000));
    daemon.close(S);
    // As if the stream had neither moved nor ended.
    words.word(STATUS).store(good, Ordering::Relaxed);
    reader.signal(Signal::CONT);
    assert!(reader.finish().exits(0).stdout.ends_with(&other(1, 1000)));
}

#[test]
fn a_holder_that_wakes_nobody_delays_readers_until_the_daemon_looks() {
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, 16 * MIB, 16 * MIB);
    let readers = Transport::ALL.map(|transport| daemon.reader_on(transport, S, []));
    let (mut client, words) = held(&daemon, S);
    for _ in 0..3 {
        let all = client.appended.len() as u64;
        eventually("they have read all", || {
            readers.iter().all(|reader| reader.stdout_len() == all)
        });
        let bytes = super::own(all, 1000);
        client.holder.try_push(&bytes).unwrap();
        // As if the holder were stopped between publishing and waking.
        words.word(HEAD).fetch_add(1, Ordering::AcqRel);
        client.appended.extend(bytes);
    }
    let all = client.appended.len() as u64;
    eventually("they have read all", || readers.iter().all(|reader| reader.stdout_len() == all));
}
