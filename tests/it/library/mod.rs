//! What other programs do with the library: on a real daemon, and with the same lines on a stream of their own.

mod adapt;
mod cancel;
mod events;
mod examples;
mod same;

use harness::{Daemon, Way};
use pfs_client::{Client, Endpoint, StreamPath};

/// A client of the daemon that gets its bytes this way.
async fn client(daemon: &Daemon, way: Way) -> Client {
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    client.with_mapping(way == Way::Mapped)
}

fn path() -> StreamPath {
    "/streamfs/library".parse().unwrap()
}
