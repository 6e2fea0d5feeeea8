//! One connection: requests out, replies in, over anything that carries bytes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ConnectError;
use crate::error::{Broken, ProtocolError};

/// Something that carries the frames. The Unix socket is one; tests have another.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection on which both ends have said hello.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    decoder: Decoder,
}

impl Connection {
    /// Says hello and waits for the answer, however long that takes.
    pub(crate) async fn open(transport: impl Transport + 'static) -> Result<Self, ConnectError> {
        let mut connection = Self { transport: Box::new(transport), decoder: Decoder::new() };
        match connection.request(&Request::Hello(Hello::OURS)).await? {
            Reply::Hello(hello) if hello.min_version == VERSION && hello.max_version == VERSION => {
                Ok(connection)
            }
            Reply::Hello(Hello { min_version, max_version, .. }) => Err(ConnectError::Version {
                message: format!(
                    "the daemon wants to speak version {min_version} to {max_version} of the protocol, and this \
                     program speaks {VERSION}; use versions of pfs and pfsd that belong together"
                ),
            }),
            Reply::Error { code: ErrorCode::Version, message } => Err(ConnectError::Version { message }),
            Reply::Error { code, message } => Err(ConnectError::Refused { code, message }),
            _ => Err(ProtocolError::Unexpected { expected: "its hello" }.into()),
        }
    }

    /// Sends a request and waits for the first reply to it. Not cancel safe.
    pub(crate) async fn request(&mut self, request: &Request) -> Result<Reply, Broken> {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        let sent = self.transport.write_all(&bytes).await;
        // A daemon that closes the connection says why first: that is worth more than a broken pipe.
        match (self.receive().await, sent) {
            (Err(Broken::Gone(_)), Err(error)) => Err(Broken::Gone(error)),
            (received, _) => received,
        }
    }

    /// Waits for the next reply. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Reply, Broken> {
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            poll_fn(|cx| self.poll_fill(cx, 0)).await?;
        }
    }

    /// The next reply, if it has been read already.
    pub(crate) fn received(&mut self) -> Result<Option<Reply>, Broken> {
        match self.decoder.next_frame()? {
            Some(frame) => Ok(Some(Reply::decode(frame)?)),
            None => Ok(None),
        }
    }

    /// Reads once, into a buffer of about `size` bytes at least. The end of the connection is an error: the daemon
    /// never ends it without having said something.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<Result<(), Broken>> {
        let held = self.decoder.len();
        let buffer = self.decoder.buffer();
        buffer.reserve(size.saturating_sub(held));
        // This future holds nothing, so that it may be dropped between polls.
        let read = ready!(pin!(self.transport.read_buf(buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => {
                Err(Broken::Gone(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::Gone(error)),
        })
    }

    /// Gives back the memory of the read buffer if it holds nothing.
    pub(crate) fn release(&mut self) {
        self.decoder.release();
    }

    /// How much memory the read buffer has, in bytes, room for one small read included.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        self.decoder.buffer().capacity()
    }

    /// Writes what it can of the first bytes, then of the second.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let transport = Pin::new(&mut *self.transport);
        let written = ready!(match (first, second) {
            (bytes, []) | ([], bytes) => transport.poll_write(cx, bytes),
            _ => transport.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
        });
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        })
    }

    /// Whether the daemon is still there and has nothing to say: then this connection can be used for a request.
    pub(crate) async fn is_idle(&mut self) -> bool {
        self.decoder.is_empty() && poll_fn(|cx| Poll::Ready(self.poll_fill(cx, 0).is_pending())).await
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
