//! The client library in other programs: on a real daemon, and with the same code on an
//! in-process stream.

mod adapt;
mod cancel;
mod events;
mod examples;
mod failure;
mod giving_up;
mod idle;
mod join;
mod marks;
mod puts;
mod same;
pub(crate) mod torn;

use harness::{Daemon, Transport};
use pfs_client::{Client, Endpoint, HttpEndpoint, StreamPath};

/// Starts a daemon that serves all transports, with ring buffers and channels of this size
/// in bytes.
fn daemon(buffer: u64) -> Daemon {
    Daemon::with_http_config(&format!(
        "[plugins.streamfs.config]\nring_buffer_size = {buffer}\nchannel_buffer_size = {buffer}\n"
    ))
}

/// Connects a client to the daemon over this transport.
async fn client(daemon: &Daemon, transport: Transport) -> Client {
    let client = Client::connect(endpoint(daemon, transport)).await.unwrap();
    client.with_shm(transport == Transport::Shm)
}

/// Returns the endpoint of the daemon for this transport.
fn endpoint(daemon: &Daemon, transport: Transport) -> Endpoint {
    match transport {
        Transport::Shm | Transport::Unix => Endpoint::Unix(daemon.socket()),
        Transport::Http => HttpEndpoint::new(&daemon.url("")).unwrap().into(),
    }
}

fn path() -> StreamPath {
    "/streamfs/library".parse().unwrap()
}

/// Runs a future, for tests that are only partly asynchronous.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
