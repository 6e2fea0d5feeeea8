//! Leases: the only writer of a stream, if it appends much, appends to the ring buffer directly.
//! Readers, other writers and the end of the stream are not affected.

mod cgroups;
mod edges;
mod ends;
mod hostile;
mod limits;
mod readers;
mod writers;

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{Daemon, Pfs, Running, Wire, eventually, noise};
use pfs_client::{Client, Endpoint, Writer};
use pfs_proto::{LeaseStart, Reply, Request, RingLayout, WriteOptions};
use pfs_stream::lease::{Holder, MappedOffer};

use super::S;

const MIB: u64 = 1024 * 1024;

/// Bytes that a writer is given at a time until it has a lease.
const PIECE: usize = 64 * 1024;

/// Returns bytes for the writer that is to hold the lease: all below 128, unlike [those of other
/// writers](other), so that a test can separate them.
fn own(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|byte| byte & 0x7f).collect()
}

/// Returns bytes for another writer.
fn other(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|byte| byte | 0x80).collect()
}

/// Separates the bytes of the lease holder from those of other writers.
fn told_apart(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    bytes.iter().partition(|byte| **byte < 0x80)
}

/// Returns the id of the process that holds the lease of a stream, if there is one.
#[track_caller]
fn holder_of(daemon: &Daemon, stream: &str) -> Option<u64> {
    let stat = daemon.stat(stream)?;
    let writers = stat["writers"].as_array().unwrap_or_else(|| panic!("no writers in {stat}"));
    writers.iter().find(|writer| writer["leased"] == true)?["pid"].as_u64()
}

#[track_caller]
fn holder(daemon: &Daemon) -> Option<u64> {
    holder_of(daemon, S)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Returns a writer with a lease.
async fn leased(daemon: &Daemon) -> Writer {
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let mut writer = client.writer(S, WriteOptions::default()).await.unwrap();
    while holder(daemon).is_none() {
        writer.append(own(1, PIECE)).await.unwrap();
    }
    // Waits until the writer knows about its lease.
    writer.append(own(1, PIECE)).await.unwrap();
    writer
}

/// A `pfs write` that gets its input from the test.
struct Fed {
    running: Running,
    given: Vec<u8>,
}

impl Fed {
    #[track_caller]
    fn start<const N: usize>(daemon: &Daemon, args: [&str; N]) -> Self {
        Self::new(daemon.pfs(["-q", "write", "--stream"]).args(args).arg(S))
    }

    #[track_caller]
    fn new(command: Pfs) -> Self {
        Self { running: command.stdin_pipe().spawn(), given: Vec::new() }
    }

    #[track_caller]
    fn give(&mut self, len: usize) {
        let bytes = own(self.given.len() as u64, len);
        self.running.send(&bytes);
        self.given.extend(bytes);
    }

    /// Gives the writer input until it holds the lease.
    #[track_caller]
    fn gets_a_lease(&mut self, daemon: &Daemon) {
        let pid = u64::from(self.running.pid());
        eventually("the writer has a lease", || {
            self.give(PIECE);
            holder(daemon) == Some(pid)
        });
    }

    /// Gives the writer enough input for a lease, and goes on for longer than the back-off after
    /// the first lease.
    #[track_caller]
    fn gives_for_a_pause(&mut self) {
        const PAUSE: Duration = Duration::from_secs(1);
        let begin = Instant::now();
        eventually("the pause is over", || {
            self.give(3 * PIECE);
            begin.elapsed() > PAUSE + PAUSE / 2
        });
    }

    /// Gives the writer `len` bytes on a thread, because the writer may block, and
    /// calls `meanwhile`.
    #[track_caller]
    fn give_meanwhile<T>(&mut self, len: usize, meanwhile: impl FnOnce(&Running) -> T) -> T {
        let mut stdin = self.running.take_stdin();
        let bytes = own(self.given.len() as u64, len);
        let giving = std::thread::spawn(move || {
            use std::io::Write as _;
            // A killed writer reads no more.
            let _ = stdin.write_all(&bytes);
            (stdin, bytes)
        });
        let done = meanwhile(&self.running);
        let (stdin, bytes) = giving.join().unwrap();
        self.running.put_stdin(stdin);
        self.given.extend(bytes);
        done
    }

    /// Gives the writer bytes. Returns false if it no longer reads.
    #[track_caller]
    fn offers(&mut self, len: usize) -> bool {
        let bytes = own(self.given.len() as u64, len);
        let takes = self.running.offer(&bytes);
        if takes {
            self.given.extend(bytes);
        }
        takes
    }

    /// Ends the input and returns all of it.
    #[track_caller]
    fn finish(self) -> Vec<u8> {
        self.running.finish().exits(0).quietly();
        self.given
    }
}

/// Ring buffer that was offered to a writer in the test, and the bytes that the writer
/// appended before.
struct Offered {
    wire: Wire,
    layout: RingLayout,
    ring: OwnedFd,
    asleep: OwnedFd,
    appended: Vec<u8>,
}

/// Appends until the daemon offers a ring buffer.
#[track_caller]
fn offered(daemon: &Daemon, stream: &str) -> Offered {
    Offered::on(writing(daemon.wire().greeted_to_hold(), stream))
}

/// Opens a writer on this connection.
#[track_caller]
pub(super) fn writing(mut wire: Wire, stream: &str) -> Wire {
    wire.send(&Request::OpenWriter(stream.parse().unwrap(), WriteOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Writing { .. })));
    wire
}

impl Offered {
    /// Appends until the daemon offers a ring buffer, over a connection with the only writer of
    /// a stream.
    #[track_caller]
    fn on(mut wire: Wire) -> Self {
        let (mut appended, mut chunks) = (Vec::new(), 0);
        loop {
            let bytes = own(appended.len() as u64, PIECE);
            wire.send(&Request::Append(Bytes::from(bytes.clone())));
            appended.extend(bytes);
            chunks += 1;
            let is_last = |reply: &Option<Reply>| matches!(reply, Some(Reply::Ack { chunks: all, .. }) if *all == chunks);
            match wire.reply() {
                Some(Reply::LeaseOffer(layout)) => {
                    let (ring, asleep) = (wire.descriptor(), wire.descriptor());
                    drop(wire.descriptor());
                    assert!(is_last(&wire.reply()));
                    return Self { wire, layout, ring, asleep, appended };
                }
                reply => assert!(is_last(&reply), "{reply:?}"),
            }
            assert!(appended.len() < 64 * 1024 * 1024, "nothing was offered");
        }
    }

    fn map(&self) -> MappedOffer {
        let [ring, asleep] = [&self.ring, &self.asleep].map(|file| file.try_clone().unwrap());
        MappedOffer::open(ring, asleep, self.layout).unwrap()
    }

    /// Accepts the lease.
    #[track_caller]
    fn hold(mut self) -> Held {
        let mapped = self.map();
        self.wire.send(&Request::LeaseReady);
        let start = match self.wire.reply() {
            Some(Reply::Leased(start)) => start,
            other => panic!("no lease: {other:?}"),
        };
        let pages = (0..start.pages).map(|_| self.wire.descriptor());
        let holder = mapped.begin(start, pages).unwrap();
        Held { wire: self.wire, ring: self.ring, holder, start, appended: self.appended }
    }
}

/// Lease that the test holds.
struct Held {
    wire: Wire,
    ring: OwnedFd,
    holder: Holder,
    start: LeaseStart,
    appended: Vec<u8>,
}

impl Held {
    /// Appends like an honest holder.
    #[track_caller]
    fn append(&mut self, len: usize) {
        let bytes = own(self.appended.len() as u64, len);
        self.holder.try_push(&bytes).unwrap();
        if self.holder.publish().unwrap() {
            self.wire.send(&Request::Published);
        }
        self.appended.extend(bytes);
    }
}

#[track_caller]
fn held(daemon: &Daemon, stream: &str) -> Held {
    offered(daemon, stream).hold()
}
