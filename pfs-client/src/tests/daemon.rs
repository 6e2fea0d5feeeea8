//! Scripted daemon: each test sends and receives the daemon's messages one by one.

use std::time::{Duration, UNIX_EPOCH};

use pfs_proto::{Reply, Request};
use tokio::{io::DuplexStream, time::timeout};

use crate::{
    Peer, ReadOptions, Reader, ReaderStat, SlowPolicy, State, StreamPath, StreamStat, WriteOptions,
    Writer,
    connection::{Connection, Transport},
    error::RequestError,
};

/// The daemon's end of one connection.
pub(super) type Daemon = pfs_peer::Peer<Box<dyn Transport>>;

/// Runs `work` with a time limit, so that a deadlock fails the test. On a paused clock, that
/// failure takes no real time and does not depend on the machine's speed.
pub(super) async fn promptly<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), work).await.expect("stuck")
}

pub(super) fn path() -> StreamPath {
    "/streamfs/cam".parse().unwrap()
}

/// Both ends of a pipe with a buffer of `size` bytes in each direction.
pub(super) fn pipe(size: usize) -> (DuplexStream, Daemon) {
    let (client, daemon) = tokio::io::duplex(size);
    (client, Daemon::new(Box::new(daemon)))
}

/// An attached writer, and the daemon's end of its connection.
pub(super) async fn writer(
    pipe: (impl Transport + 'static, Daemon),
    max_chunk: u64,
) -> (Writer, Daemon) {
    let (client, mut daemon) = pipe;
    let writer = async {
        let connection = Connection::open(client).await.unwrap();
        Writer::open(
            connection,
            path(),
            WriteOptions { wait_readers: 3, ..WriteOptions::default() },
        )
        .await
        .unwrap()
    };
    let welcome = async {
        daemon.welcome().await;
        assert_eq!(
            daemon.request().await,
            Some(Request::OpenWriter(
                path(),
                WriteOptions { wait_readers: 3, ..WriteOptions::default() }
            ))
        );
        daemon.send(&Reply::Writing { max_chunk }).await;
    };
    (tokio::join!(writer, welcome).0, daemon)
}

/// Opens a reader to which the daemon replies with `first`.
pub(super) async fn reader(size: usize, first: Reply) -> (Result<Reader, RequestError>, Daemon) {
    let (client, mut daemon) = pipe(size);
    let reader = async {
        let connection = Connection::open(client).await.unwrap();
        Reader::open(connection, None, &path(), ReadOptions::default()).await
    };
    let welcome = async {
        daemon.welcome().await;
        assert_eq!(
            daemon.request().await,
            Some(Request::OpenReader(path(), ReadOptions::default()))
        );
        daemon.send(&first).await;
    };
    (tokio::join!(reader, welcome).0, daemon)
}

/// The stats of a stream with a head of 3.
pub(super) fn stat() -> StreamStat {
    StreamStat {
        path: path().to_string(),
        state: State::Closed,
        created: UNIX_EPOCH,
        last_append: None,
        owner: Peer { pid: Some(1), uid: Some(2) },
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        capacity: 4096,
        memory: 12_288,
        head: 3,
        tail: 0,
        chunks: 1,
        chunks_held: 1,
        moves: 0,
        rate: 0,
        writers_finished: 1,
        writers_died: 0,
        lost_bytes: 0,
        ttl: None,
        content_type: None,
        media: None,
        hops: Vec::new(),
        writers: Vec::new(),
        readers: Vec::new(),
    }
}

/// The stats of a reader at `position`.
pub(super) fn reader_stat(position: u64) -> ReaderStat {
    ReaderStat {
        peer: Peer { pid: Some(1), uid: None },
        since: UNIX_EPOCH,
        start: 0,
        position,
        lag: 0,
        policy: SlowPolicy::Block,
        lost_bytes: 0,
        lost_chunks: 0,
        blocking: false,
        was_block: false,
    }
}
