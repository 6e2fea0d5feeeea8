//! A daemon in memory that serves HTTP, its streams, and the checks after its clients have gone.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use pfs_host::{Daemon, Settings};
use pfs_http::{
    Server, Setup,
    settings::{Limits, Settings as HttpSettings},
};
use pfs_proto::Identity;
use pfs_stream::{Finish, StreamConfig};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    pipe::{self, Near},
    tokens,
};

/// Longer than any timeout of the daemon for a client that has gone.
const SETTLED: Duration = Duration::from_secs(120);

/// Limits of the daemon.
const LIMITS: pfs_stream::Limits =
    pfs_stream::Limits { max_streams: 12, max_memory: 4 * 1024 * 1024 };
const MAX_CONNECTIONS: usize = 8;
const MAX_CONNECTIONS_PER_ADDRESS: usize = 6;

/// Paths of the streams that exist at the start, and of one that does not.
pub const PATHS: [&str; 8] = [
    "/streamfs/open",
    "/streamfs/closed",
    "/streamfs/failed",
    "/streamfs/wrapped",
    "/streamfs/large",
    "/streamfs/json",
    "/streamfs/lab/späße",
    "/streamfs/missing",
];

/// A stream that exists at the start.
#[derive(Debug)]
pub struct Known {
    pub identity: Identity,
    pub contents: Vec<u8>,
}

pub struct World {
    pub daemon: Arc<Daemon>,
    server: Arc<Server>,
    kind: Kind,
    pub known: Vec<Known>,
    served: Vec<JoinHandle<()>>,
}

/// Configuration of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// True if requests need a token.
    pub with_tokens: bool,
    /// True if `block` readers may delay writers only for a few seconds.
    pub impatient: bool,
}

/// Reusable daemons of earlier runs, which keep nothing of those runs. Creating a daemon takes
/// longer than most runs.
static MADE: Mutex<BTreeMap<Kind, (Arc<Daemon>, Arc<Server>)>> = Mutex::new(BTreeMap::new());

impl World {
    pub fn new(kind: Kind) -> Self {
        let made = MADE.lock().unwrap().remove(&kind);
        let (daemon, server) = made.unwrap_or_else(|| make(kind));
        let known = streams(&daemon);
        Self { daemon, server, kind, known, served: Vec::new() }
    }

    /// Connects over a pipe with a buffer of `capacity` bytes in each direction. Returns `None`
    /// while too many clients are being refused.
    pub fn connect(&mut self, capacity: usize) -> Option<Near> {
        let (far, near) = pipe::new(capacity);
        let serving = self.server.serve(far, address())?;
        self.served.push(tokio::spawn(serving));
        Some(near)
    }

    /// Total bytes appended to all streams.
    pub fn written(&self) -> u64 {
        let written = self.daemon.registry().totals().written;
        written.shm + written.unix + written.http
    }

    /// Checks that the daemon keeps nothing once all clients have gone.
    pub async fn check_settled(self) {
        sleep(SETTLED).await;
        assert!(
            self.served.iter().all(JoinHandle::is_finished),
            "a connection outlives its client"
        );
        let Self { daemon, server, kind, .. } = self;
        let totals = daemon.registry().totals();
        assert_eq!(daemon.info().connections, 0, "connections");
        assert_eq!((totals.writers, totals.writers_waiting), (0, 0), "writers");
        let readers = [totals.readers_drop, totals.readers_block, totals.readers_disconnect];
        assert_eq!(readers, [0; 3], "readers");
        assert_eq!(
            (daemon.arriving().used(), daemon.leaving().used()),
            (0, 0),
            "memory of messages"
        );
        let rings: u64 = daemon.registry().list().iter().map(|stream| stream.stat().memory).sum();
        assert_eq!(daemon.registry().memory(), rings, "memory of rings");
        for stream in daemon.registry().list() {
            stream.remove();
            daemon.registry().remove_stream(&stream);
        }
        assert_eq!(
            (daemon.registry().len(), daemon.registry().memory()),
            (0, 0),
            "memory of removed streams"
        );
        if !daemon.shutdown().is_cancelled() {
            MADE.lock().unwrap().insert(kind, (daemon, server));
        }
    }
}

fn make(kind: Kind) -> (Arc<Daemon>, Arc<Server>) {
    let mut host = Settings {
        limits: LIMITS,
        max_connections: MAX_CONNECTIONS,
        max_block_time: kind.impatient.then_some(Duration::from_secs(3)),
        // Some ring buffers are shared, as in a real daemon, and some are not.
        max_stream_descriptors: 2,
        ..Settings::default()
    };
    for mount in &mut host.mounts {
        (mount.ring_buffer_size, mount.channel_buffer_size) = (16 * 1024, 8 * 1024);
    }
    let http = HttpSettings {
        address: Some(address()),
        allowed_hosts: vec!["streams.example.org".parse().unwrap()],
        allowed_origins: vec!["https://player.example.org".parse().unwrap()],
        token_file: kind.with_tokens.then(|| tokens::file().to_owned()),
        limits: Limits {
            max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            max_header_size: 4 * 1024,
            ..Limits::default()
        },
        ..HttpSettings::default()
    };
    let setup = Setup::prepare(&host.mounts, &http).unwrap().expect("HTTP is on");
    let daemon = Arc::new(Daemon::new(&host));
    let server = Arc::new(Server::new(setup, Arc::clone(&daemon)));
    (daemon, server)
}

/// Address of both ends of every connection.
pub fn address() -> SocketAddr {
    ([127, 0, 0, 1], 4437).into()
}

/// Arbitrary bytes.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..30_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
});

fn streams(daemon: &Daemon) -> Vec<Known> {
    let make = |path: &str, size: u64, content_type: &str, chunks: &[&[u8]]| {
        let config = StreamConfig {
            ring_buffer_size: size,
            channel_buffer_size: size,
            content_type: (!content_type.is_empty()).then(|| content_type.to_owned()),
            ..StreamConfig::default()
        };
        let stream = daemon.registry().create(path, config).unwrap();
        let mut writer = stream.writer().unwrap();
        chunks.iter().for_each(|chunk| _ = writer.try_append(chunk).unwrap());
        writer.finish(Finish::KeepOpen);
        (Known { identity: stream.identity(), contents: chunks.concat() }, stream)
    };
    let [open, closed, failed, wrapped, large, json, deep, _] = PATHS;
    let bytes = &BYTES[..];
    let text = "Grüße\r\nan alle\n".as_bytes();
    let (open, _) =
        make(open, 4 * 1024, "text/plain; charset=utf-8", &[text, &text[..4], &text[4..]]);
    let (closed, stream) =
        make(closed, 4 * 1024, "video/mp2t", &[&bytes[..1000], b"x", &bytes[..77]]);
    stream.close();
    let (failed, stream) = make(failed, 4 * 1024, "", &[&bytes[..500]]);
    assert!(stream.close_failed());
    let (wrapped, _) = make(wrapped, 1024, "", &[&bytes[..300]; 9]);
    let (large, _) = make(large, 128 * 1024, "text/csv", &[bytes, bytes, &[b'a'; 7000]]);
    let (json, _) = make(json, 4 * 1024, "application/json", &[b"1", b"{\"a\": [null]}", b"\"x\""]);
    let (deep, _) = make(deep, 2 * 1024, "", &[]);
    vec![open, closed, failed, wrapped, large, json, deep]
}
