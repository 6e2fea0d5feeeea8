//! What other programs do with the library: on a real daemon, and with the same lines on a stream
//! of their own.

mod adapt;
mod cancel;
mod events;
mod examples;
mod failure;
mod giving_up;
mod idle;
mod puts;
mod same;
pub(crate) mod torn;

use harness::{Daemon, Transport};
use pfs_client::{Client, Endpoint, HttpEndpoint, StreamPath};

/// A daemon that can be reached on all ways, with rings and channels of so many bytes.
fn daemon(buffer: u64) -> Daemon {
    Daemon::with_http_config(&format!(
        "[plugins.streamfs.config]\nring_buffer_size = {buffer}\nchannel_buffer_size = {buffer}\n"
    ))
}

/// A client of the daemon over this transport.
async fn client(daemon: &Daemon, transport: Transport) -> Client {
    let client = Client::connect(endpoint(daemon, transport)).await.unwrap();
    client.with_shm(transport == Transport::Shm)
}

/// Where the daemon is for such a client.
fn endpoint(daemon: &Daemon, transport: Transport) -> Endpoint {
    match transport {
        Transport::Shm | Transport::Unix => Endpoint::Unix(daemon.socket()),
        Transport::Http => HttpEndpoint::new(&daemon.url("")).unwrap().into(),
    }
}

fn path() -> StreamPath {
    "/streamfs/library".parse().unwrap()
}

/// For tests whose work is only sometimes asynchronous.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
