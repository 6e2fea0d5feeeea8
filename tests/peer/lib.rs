//! Protocol peer for tests: the client or daemon end of a connection, frame by frame, and the
//! client end of an HTTP connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a peer fails by panicking")]

pub mod http;

use std::io::{self, ErrorKind};

use bytes::BytesMut;
use pfs_proto::{Decoder, Frame, Hello, Reply, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Byte transport in both directions. Every type that is `AsyncRead` and `AsyncWrite` is a
/// transport.
#[allow(
    async_fn_in_trait,
    reason = "a test names its transport, so the compiler knows what is `Send`"
)]
pub trait Transport {
    /// Waits for bytes and appends them to `buffer`. Returns their number; 0 at the end of the
    /// connection.
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Writes all bytes.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.read_buf(buffer).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await
    }
}

/// Message of a client or a daemon.
pub trait Message {
    /// Appends the message's frames to `out`.
    fn encode(&self, out: &mut BytesMut);
}

impl Message for Request {
    fn encode(&self, out: &mut BytesMut) {
        self.encode(out);
    }
}

impl Message for Reply {
    fn encode(&self, out: &mut BytesMut) {
        self.encode(out);
    }
}

/// One end of a connection. Panics if the other end sends something that is not a message, or ends
/// the connection within a frame.
pub struct Peer<T> {
    /// Transport that carries the frames.
    pub transport: T,
    decoder: Decoder,
}

impl<T: Transport> Peer<T> {
    /// Creates an end on which nothing was sent yet.
    pub fn new(transport: T) -> Self {
        Self { transport, decoder: Decoder::new() }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &impl Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// Sends `bytes` unchanged. Ignores that the other end has hung up.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        match self.transport.write(bytes).await {
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("cannot send: {e}")
            }
            _ => {}
        }
    }

    /// Waits for a frame; `None` when the other end has hung up.
    async fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the other end sends frames") {
                return Ok(Some(frame));
            }
            match self.transport.read(self.decoder.buffer()).await {
                // A peer that closes a socket with unread bytes resets the connection.
                Err(e) if e.kind() != ErrorKind::ConnectionReset => return Err(e),
                Ok(0) | Err(_) => {
                    assert!(self.decoder.is_empty(), "the connection ended within a frame");
                    return Ok(None);
                }
                Ok(_) => {}
            }
        }
    }

    /// Waits for the daemon's next message; `None` when the daemon has hung up.
    pub async fn reply(&mut self) -> Option<Reply> {
        self.try_reply().await.expect("a readable transport")
    }

    /// Like [`reply`](Self::reply), but returns transport errors, such as a timeout.
    pub async fn try_reply(&mut self) -> io::Result<Option<Reply>> {
        Ok(self.frame().await?.map(|frame| Reply::decode(frame).expect("the daemon sends replies")))
    }

    /// Waits for the client's next message; `None` when the client has hung up.
    pub async fn request(&mut self) -> Option<Request> {
        let frame = self.frame().await.expect("a readable transport");
        frame.map(|frame| Request::decode(frame).expect("the client sends requests"))
    }

    /// Sends a client's hello and returns the reply.
    pub async fn greet(&mut self, capabilities: u64) -> Option<Reply> {
        self.send(&Request::Hello(Hello { capabilities, ..Hello::OURS })).await;
        self.reply().await
    }

    /// Waits for a client's hello and sends the daemon's.
    pub async fn welcome(&mut self) {
        // The capabilities depend on the client's transport.
        let Some(Request::Hello(hello)) = self.request().await else { panic!("no hello") };
        assert_eq!(Hello { capabilities: 0, ..hello }, Hello::OURS);
        self.send(&Reply::Hello(Hello::OURS)).await;
    }
}
