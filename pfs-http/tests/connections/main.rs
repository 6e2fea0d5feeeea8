//! Session tests over in-memory connections: each test sets the capacity of its connections, and
//! the clock is paused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod durable;
mod frames;
mod half_close;
mod limits;
mod memory;
mod orphans;
mod pipe;
mod refused;
mod reload;
mod replaced;
mod silent;
mod sse;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pfs_host::{Daemon, refusals::Reason};
use pfs_http::{
    Server, Setup,
    settings::{Limits, Settings},
};
use pfs_stream::{Stream, StreamConfig};

use self::pipe::Near;

type Client = pfs_peer::http::Client<Near>;

const S: &str = "/streamfs/s";

/// Larger than any message of these tests.
const WIDE: usize = 64 * 1024;

/// Longer than any time limit.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A daemon and its HTTP server.
struct Served {
    daemon: Arc<Daemon>,
    server: Arc<Server>,
}

impl Served {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::with_settings(&Settings { limits, ..Settings::default() })
    }

    fn with_settings(http: &Settings) -> Self {
        let daemon = Arc::new(Daemon::new(&pfs_host::Settings::default()));
        let server = Arc::new(Server::new(setup(http), Arc::clone(&daemon)));
        Self { daemon, server }
    }

    /// Connects over a pipe that holds all bytes that the test sends.
    fn connect(&self) -> Client {
        self.connect_over(WIDE)
    }

    /// Connects over a pipe that holds `capacity` bytes in each direction.
    fn connect_over(&self, capacity: usize) -> Client {
        Client::new(self.connect_raw(capacity), address())
    }

    /// Like [`connect_over`](Self::connect_over), for a test with an HTTP client of its own.
    fn connect_raw(&self, capacity: usize) -> Near {
        let (far, near) = pipe::new(capacity);
        let serving = self.server.serve(far, address()).expect("every client is admitted");
        tokio::spawn(serving);
        near
    }

    /// Number of refusals for a reason.
    fn refusals(&self, reason: Reason) -> u64 {
        let counts = self.daemon.refusals().counts();
        counts.into_iter().find(|(name, _)| *name == reason.name()).unwrap().1
    }

    /// Creates the stream `S`, which holds `size` bytes.
    fn create(&self, size: u64) -> Stream {
        let sizes = StreamConfig {
            ring_buffer_size: size,
            channel_buffer_size: size,
            ..StreamConfig::default()
        };
        self.daemon.registry().create(S, sizes).unwrap()
    }
}

/// Prepares the settings, with the address of these tests.
fn setup(http: &Settings) -> Setup {
    let mounts = pfs_host::Settings::default().mounts;
    let http = Settings { address: Some(address()), ..http.clone() };
    Setup::prepare(&mounts, &http).unwrap().expect("HTTP is on")
}

/// Address of both ends of every connection.
fn address() -> SocketAddr {
    ([127, 0, 0, 1], 4437).into()
}
