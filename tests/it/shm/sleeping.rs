//! Readers whose wake-ups another reader steals.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use harness::{Daemon, eventually};
use pfs_client::{Endpoint, Event, blocking};
use pfs_proto::ReadOptions;
use rustix::{
    mm::{MapFlags, ProtFlags, mmap},
    thread::futex::{Flags, requeue},
};

use super::{Handed, S, handed};

/// How often wake-ups are stolen. A reader that then sleeps for a minute or for ever makes the test
/// hang until its time limit.
const ROUNDS: u32 = 4;

/// Offset of the notifier in the header of a ring buffer, in bytes.
const NOTIFY: usize = 3 * 16 * 8;

/// Unused offset in a reader's page, in bytes.
const UNUSED: usize = 2048;

/// Reader that moves the sleepers of the ring buffer's notifier to a futex of its
/// own (`FUTEX_REQUEUE`).
struct Thief {
    _handed: Handed,
    notifier: &'static AtomicU32,
    own: &'static AtomicU32,
}

impl Thief {
    fn new(daemon: &Daemon) -> Self {
        let handed = handed(daemon, S, ReadOptions::default());
        let notifier = word(handed.ring.as_fd(), ProtFlags::READ, NOTIFY);
        let own = word(handed.page.as_fd(), ProtFlags::READ | ProtFlags::WRITE, UNUSED);
        Self { _handed: handed, notifier, own }
    }

    /// Moves all sleepers, at least one.
    fn steal(&self) {
        eventually("a sleeper was moved", || {
            requeue(self.notifier, Flags::empty(), 0, i32::MAX as u32, self.own).unwrap() > 0
        });
    }
}

/// Maps one word of the first page of this memory.
#[allow(unsafe_code, reason = "there is no safe way to ask for a mapping")]
fn word(file: BorrowedFd<'_>, protection: ProtFlags, place: usize) -> &'static AtomicU32 {
    // SAFETY: the mapping is at an address of the kernel's choice and is never unmapped; the file
    // has at least one page and keeps its size, and `place` is within that page and aligned. Nobody
    // writes through a read-only mapping.
    unsafe {
        let address =
            mmap(std::ptr::null_mut(), 4096, protection, MapFlags::SHARED, file, 0).unwrap();
        AtomicU32::from_ptr(address.cast::<u8>().add(place).cast())
    }
}

#[test]
fn pfs_cat_gets_the_chunk_whose_wake_up_was_stolen() {
    let daemon = Daemon::start();
    daemon.create(S);
    let reader = daemon.reader(S, []);
    let thief = Thief::new(&daemon);
    for round in 1..=ROUNDS {
        thief.steal();
        daemon.append(S, "x");
        eventually("the news are printed", || reader.stdout_len() == u64::from(round));
    }
}

#[test]
fn a_thread_that_reads_gets_the_chunk_whose_wake_up_was_stolen() {
    let daemon = Daemon::start();
    daemon.create(S);
    let client = blocking::Client::new(Endpoint::Unix(daemon.socket()));
    let mut reader = client.reader(S, ReadOptions::default()).unwrap();
    let read = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                match reader.next().unwrap() {
                    Event::Chunk(_) => _ = read.fetch_add(1, Ordering::Relaxed),
                    Event::End { .. } => break,
                    _ => {}
                }
            }
        });
        let thief = Thief::new(&daemon);
        for round in 1..=ROUNDS {
            thief.steal();
            daemon.append(S, "x");
            eventually("the news are read", || read.load(Ordering::Relaxed) == round);
        }
        daemon.close(S);
    });
}
