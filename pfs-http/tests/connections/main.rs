//! Connections in memory: the test sets how much a connection holds, and the clock stands still but for what waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod client;
mod durable;
mod frames;
mod half_close;
mod limits;
mod orphans;
mod pipe;
mod refused;
mod replaced;
mod silent;
mod sse;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pfs_host::Daemon;
use pfs_http::{
    Server, Setup,
    settings::{Limits, Settings},
};
use pfs_stream::{Stream, StreamConfig};

use self::{client::Client, pipe::Near};

const S: &str = "/streamfs/s";

/// More than any message of these tests.
const WIDE: usize = 64 << 10;

/// Longer than any limit.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A daemon and its HTTP.
struct Served {
    daemon: Arc<Daemon>,
    server: Arc<Server>,
}

impl Served {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let host = pfs_host::Settings::default();
        let http = Settings { address: Some(address()), limits, ..Settings::default() };
        let setup = Setup::prepare(&host.mounts, &http, None).unwrap().expect("HTTP is on");
        let daemon = Arc::new(Daemon::new(&host));
        let server = Arc::new(Server::new(setup, Arc::clone(&daemon)));
        Self { daemon, server }
    }

    /// Connects over a pipe that holds all that the test sends.
    fn connect(&self) -> Client {
        self.connect_over(WIDE)
    }

    /// Connects over a pipe that holds so many bytes in each direction.
    fn connect_over(&self, capacity: usize) -> Client {
        Client::new(self.connect_raw(capacity))
    }

    /// Connects likewise, for a client that is not this crate's.
    fn connect_raw(&self, capacity: usize) -> Near {
        let (far, near) = pipe::new(capacity);
        let serving = self.server.serve(far, address()).expect("nobody is turned away");
        tokio::spawn(serving);
        near
    }

    /// Makes the stream `S`, which holds so many bytes.
    fn create(&self, size: u64) -> Stream {
        let sizes =
            StreamConfig { ring_buffer_size: size, channel_buffer_size: size, ..StreamConfig::default() };
        self.daemon.registry().create(S, sizes).unwrap()
    }
}

/// Both ends of every connection.
fn address() -> SocketAddr {
    ([127, 0, 0, 1], 4437).into()
}
