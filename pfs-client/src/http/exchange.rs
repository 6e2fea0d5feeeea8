//! A request and its response as a connection's two directions.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use reqwest::{Body, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};

/// How much is written ahead of what HTTP has taken, in bytes.
const AHEAD: usize = 256 << 10;

/// The largest piece that is handed to HTTP, in bytes.
const PIECE: usize = 64 << 10;

/// What is read is the response's body. What is written is the request's, if that goes on.
pub(crate) struct Exchange {
    response: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    /// What came and was not read yet.
    piece: Bytes,
    request: Option<DuplexStream>,
}

impl Exchange {
    pub(super) fn new(response: Response, request: Option<DuplexStream>) -> Self {
        Self { response: Box::pin(response.bytes_stream()), piece: Bytes::new(), request }
    }

    fn request(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        self.request.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Exchange {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            match ready!(this.response.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => this.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = this.piece.len().min(buffer.remaining());
        buffer.put_slice(this.piece.get(..len).unwrap_or_default());
        this.piece.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// What the system said, if it said something; otherwise what HTTP makes of it.
fn broken(error: &reqwest::Error) -> io::Error {
    let mut cause: &dyn std::error::Error = error;
    let mut kind = io::ErrorKind::ConnectionReset;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(system) = cause.downcast_ref::<io::Error>() {
            kind = system.kind();
        }
    }
    io::Error::new(kind, cause.to_string())
}

impl AsyncWrite for Exchange {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().request()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().request()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().request()?.poll_shutdown(cx)
    }
}

/// The body of a request that begins with this and goes on with what is written here.
pub(super) fn outgoing(first: Bytes) -> (DuplexStream, Body) {
    let (near, far) = tokio::io::duplex(AHEAD);
    (near, Body::wrap_stream(Outgoing { first, far, buffer: BytesMut::new() }))
}

struct Outgoing {
    first: Bytes,
    far: DuplexStream,
    buffer: BytesMut,
}

impl Stream for Outgoing {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.first))));
        }
        this.buffer.reserve(PIECE);
        // This future holds nothing, so that it may be dropped between polls.
        let read = ready!(pin!(this.far.read_buf(&mut this.buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(_) => Some(Ok(this.buffer.split().freeze())),
            Err(error) => Some(Err(error)),
        })
    }
}
