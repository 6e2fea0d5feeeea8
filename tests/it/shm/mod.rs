//! Shm readers and writers: results that must not depend on shared memory, and actions that they
//! are not allowed.

mod death;
mod descriptors;
mod disorder;
mod endless;
mod following;
mod idle;
mod lease;
mod lying;
mod reload;
mod same;
mod sleeping;
mod stats;
mod users;

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
};

use harness::{Daemon, Wire};
use pfs_proto::{ReadOptions, Reply, Request, ShmStart};

const S: &str = "/streamfs/s";

/// What a reader receives: the ring buffer and its own page.
pub(crate) struct Handed {
    pub(crate) wire: Wire,
    start: ShmStart,
    ring: OwnedFd,
    pub(crate) page: OwnedFd,
}

/// Attaches an shm reader that the test controls.
#[track_caller]
pub(crate) fn handed(daemon: &Daemon, stream: &str, options: ReadOptions) -> Handed {
    handed_over(daemon.wire().greeted_to_share(), stream, options)
}

/// Attaches an shm reader over this connection.
#[track_caller]
fn handed_over(mut wire: Wire, stream: &str, options: ReadOptions) -> Handed {
    wire.send(&Request::OpenReader(stream.parse().unwrap(), options));
    let Some(Reply::Shm(start)) = wire.reply() else { panic!("it was handed nothing") };
    let (ring, page) = (wire.descriptor(), wire.descriptor());
    assert!(matches!(wire.reply(), Some(Reply::Reading { .. })));
    Handed { wire, start, ring, page }
}

/// Checks that a client has not harmed the daemon, whose memory was `before`.
#[track_caller]
fn is_unharmed(daemon: &mut Daemon, before: u64) {
    const FLAT: u64 = 8 * 1024 * 1024;
    assert!(daemon.runs(), "the daemon ended: {}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let after = daemon.memory();
    assert!(after < before + FLAT, "the daemon grew from {before} to {after}");
}

/// Ends the threads that scribble, also when the test fails: a scope waits for them.
struct EndsAtDrop<'a>(&'a AtomicBool);

impl Drop for EndsAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
