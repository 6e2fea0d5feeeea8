//! Leases: the only writer of a stream that appends much appends to the ring by itself. What
//! readers and other writers get of the stream, and how it ends, does not depend on that.

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

/// What is given to a writer at a time until it has a lease.
const PIECE: usize = 64 * 1024;

/// Bytes of the writer that is to hold the lease: below 128, unlike [those](other) of anybody else,
/// so that what is read can be told apart.
fn own(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|byte| byte & 0x7f).collect()
}

/// Bytes of another writer.
fn other(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|byte| byte | 0x80).collect()
}

/// What was read, as that of the writer that had the lease and that of others.
fn told_apart(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    bytes.iter().partition(|byte| **byte < 0x80)
}

/// The process that holds a lease of a stream, if one does.
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

/// A writer that has a lease.
async fn leased(daemon: &Daemon) -> Writer {
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let mut writer = client.writer(S, WriteOptions::default()).await.unwrap();
    while holder(daemon).is_none() {
        writer.append(own(1, PIECE)).await.unwrap();
    }
    // This waits until the writer knows, too.
    writer.append(own(1, PIECE)).await.unwrap();
    writer
}

/// A `pfs write` whose input is what the test gives.
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

    /// Gives it as much as it takes until it holds the lease.
    #[track_caller]
    fn gets_a_lease(&mut self, daemon: &Daemon) {
        let pid = u64::from(self.running.pid());
        eventually("the writer has a lease", || {
            self.give(PIECE);
            holder(daemon) == Some(pid)
        });
    }

    /// Gives it enough for a lease for longer than the pause after the first one.
    #[track_caller]
    fn gives_for_a_pause(&mut self) {
        const PAUSE: Duration = Duration::from_secs(1);
        let begin = Instant::now();
        eventually("the pause is over", || {
            self.give(3 * PIECE);
            begin.elapsed() > PAUSE + PAUSE / 2
        });
    }

    /// Gives it so many bytes on a thread, because it may wait, while the test does something.
    #[track_caller]
    fn give_meanwhile<T>(&mut self, len: usize, meanwhile: impl FnOnce(&Running) -> T) -> T {
        let mut stdin = self.running.take_stdin();
        let bytes = own(self.given.len() as u64, len);
        let giving = std::thread::spawn(move || {
            use std::io::Write as _;
            // One that was killed takes no more.
            let _ = stdin.write_all(&bytes);
            (stdin, bytes)
        });
        let done = meanwhile(&self.running);
        let (stdin, bytes) = giving.join().unwrap();
        self.running.put_stdin(stdin);
        self.given.extend(bytes);
        done
    }

    /// Gives it bytes, and tells whether it takes any more.
    #[track_caller]
    fn offers(&mut self, len: usize) -> bool {
        let bytes = own(self.given.len() as u64, len);
        let takes = self.running.offer(&bytes);
        if takes {
            self.given.extend(bytes);
        }
        takes
    }

    /// Ends its input, and returns all that it was given.
    #[track_caller]
    fn finish(self) -> Vec<u8> {
        self.running.finish().exits(0).quietly();
        self.given
    }
}

/// A ring that was offered to a writer of the test's own, and what it has appended before.
struct Offered {
    wire: Wire,
    layout: RingLayout,
    ring: OwnedFd,
    asleep: OwnedFd,
    appended: Vec<u8>,
}

/// Appends until a ring is offered.
#[track_caller]
fn offered(daemon: &Daemon, stream: &str) -> Offered {
    Offered::on(writing(daemon.wire().greeted_to_hold(), stream))
}

/// A writer of the test's own.
#[track_caller]
pub(super) fn writing(mut wire: Wire, stream: &str) -> Wire {
    wire.send(&Request::OpenWriter(stream.parse().unwrap(), WriteOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Writing { .. })));
    wire
}

impl Offered {
    /// Over a connection that is a writer's, of a stream where nobody else appends.
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

    /// Takes the lease.
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

/// A lease that the test holds.
struct Held {
    wire: Wire,
    ring: OwnedFd,
    holder: Holder,
    start: LeaseStart,
    appended: Vec<u8>,
}

impl Held {
    /// Appends as an honest holder does.
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
