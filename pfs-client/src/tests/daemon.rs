//! A daemon that does what a test tells it to, message by message.

use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use pfs_proto::{Decoder, Hello, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::connection::{Connection, Transport};
use crate::error::RequestError;
use crate::{
    Peer, ReadOptions, Reader, ReaderStat, SlowPolicy, State, StreamPath, StreamStat, WriteOptions, Writer,
};

/// The daemon's end of one connection.
pub(super) struct Daemon {
    transport: Box<dyn Transport>,
    decoder: Decoder,
}

impl Daemon {
    pub(super) fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), decoder: Decoder::new() }
    }

    /// The client's next message, or `None` where the client has ended the connection.
    pub(super) async fn request(&mut self) -> Option<Request> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(Request::decode(frame).unwrap());
            }
            let read = self.transport.read_buf(self.decoder.buffer()).await;
            // A socket that is closed with bytes unread resets the connection.
            if read.is_err() || matches!(read, Ok(0)) {
                assert!(self.decoder.is_empty(), "it ended inside a frame");
                return None;
            }
        }
    }

    pub(super) async fn send(&mut self, reply: &Reply) {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// Bytes that need not be a message.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.transport.write_all(bytes).await.unwrap();
    }

    pub(super) async fn welcome(&mut self) {
        // What a client offers besides depends on the transport.
        let Some(Request::Hello(hello)) = self.request().await else { panic!("no hello") };
        assert_eq!(Hello { capabilities: 0, ..hello }, Hello::OURS);
        self.send(&Reply::Hello(Hello::OURS)).await;
    }
}

/// What comes of this, which must not take for ever: being stuck is a failure, too.
pub(super) async fn promptly<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("stuck")
}

pub(super) fn path() -> StreamPath {
    "/streamfs/cam".parse().unwrap()
}

/// Both ends of a pipe that holds so many bytes in each direction.
pub(super) fn pipe(size: usize) -> (DuplexStream, Daemon) {
    let (client, daemon) = tokio::io::duplex(size);
    (client, Daemon::new(daemon))
}

/// An attached writer, and the daemon that it is attached to.
pub(super) async fn writer(pipe: (impl Transport + 'static, Daemon), max_chunk: u64) -> (Writer, Daemon) {
    let (client, mut daemon) = pipe;
    let writer = async {
        let connection = Connection::open(client).await.unwrap();
        Writer::open(connection, &path(), WriteOptions { wait_readers: 3 }).await.unwrap()
    };
    let welcome = async {
        daemon.welcome().await;
        assert_eq!(
            daemon.request().await,
            Some(Request::OpenWriter(path(), WriteOptions { wait_readers: 3 }))
        );
        daemon.send(&Reply::Writing { max_chunk }).await;
    };
    (tokio::join!(writer, welcome).0, daemon)
}

/// What comes of asking for a reader, when the daemon's first word is this.
pub(super) async fn reader(size: usize, first: Reply) -> (Result<Reader, RequestError>, Daemon) {
    let (client, mut daemon) = pipe(size);
    let reader = async {
        let connection = Connection::open(client).await.unwrap();
        Reader::open(connection, &path(), ReadOptions::default()).await
    };
    let welcome = async {
        daemon.welcome().await;
        assert_eq!(daemon.request().await, Some(Request::OpenReader(path(), ReadOptions::default())));
        daemon.send(&first).await;
    };
    (tokio::join!(reader, welcome).0, daemon)
}

/// The figures of a stream with a head of 3.
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
        rate: 0,
        writers_finished: 1,
        writers_died: 0,
        lost_bytes: 0,
        ttl: None,
        content_type: None,
        writers: Vec::new(),
        readers: Vec::new(),
    }
}

/// The figures of a reader at this position.
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
    }
}
