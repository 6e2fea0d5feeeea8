//! Protocol sniffing: the first bytes of a connection say whether the client speaks HTTP/2.
//!
//! hyper reserves 8 KiB before each read, and keeps its buffer for as long as the connection lives.
//! If it got the first 24 bytes in a read of their own, as `auto::Connection` of hyper-util replays
//! them, the second read would double the buffer: an idle reader of a stream would hold 16 KiB for
//! a request of 150 bytes. [`Opening`] reads more at once, so that hyper gets the whole request in
//! one read.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Preface that every HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Size of the first read, in bytes. The headers of most requests are smaller.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// HTTP version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Connection whose first bytes may have been read already.
#[derive(Debug)]
pub(super) struct Opening<I> {
    io: I,
    /// Bytes that were read but not yet passed to hyper.
    first: Vec<u8>,
}

impl<I> Opening<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, first: Vec::new() }
    }

    /// Puts back bytes that hyper got and did not use.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.first.splice(..0, bytes.iter().copied());
    }
}

impl<I: AsyncRead + Unpin> Opening<I> {
    /// Reads until the version is certain: the bytes differ from [`PREFACE`], or begin with the
    /// whole preface.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending: no byte is lost.
    pub(super) async fn version(&mut self) -> io::Result<Version> {
        poll_fn(|cx| self.poll_version(cx)).await
    }

    fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Version>> {
        let mut bytes = [0; FIRST_READ_BYTES];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            self.first.extend_from_slice(buf.filled());
            if self.first.starts_with(PREFACE) {
                return Poll::Ready(Ok(Version::Http2));
            }
            if buf.filled().is_empty() || !PREFACE.starts_with(&self.first) {
                return Poll::Ready(Ok(Version::Http1));
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let rest = this.first.split_off(this.first.len().min(buf.remaining()));
        buf.put_slice(&mem::replace(&mut this.first, rest));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use axum::body::Body;
    use futures_util::FutureExt;
    use hyper::{Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const REQUEST: &[u8] =
        b"PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    /// Connection that records the largest room of any read.
    struct Recorder {
        opening: Opening<DuplexStream>,
        most: Arc<AtomicUsize>,
    }

    impl AsyncRead for Recorder {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.most.fetch_max(buf.remaining(), Relaxed);
            Pin::new(&mut self.opening).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.opening).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.opening).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.opening).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn a_small_request_does_not_make_hyper_double_its_buffer() {
        let (mut client, server) = duplex(1024 * 1024);
        client.write_all(REQUEST).await.unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let mut opening = Opening::new(server);
        assert_eq!(opening.version().await.unwrap(), Version::Http1);
        let io = TokioIo::new(Recorder { opening, most: Arc::clone(&most) });
        let service = service_fn(async |_| {
            Ok::<_, Infallible>(Response::new(Body::from("an answer over HTTP/1.1")))
        });
        http1::Builder::new().serve_connection(io, service).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("an answer over HTTP/1.1"), "{answer}");
        assert!(most.load(Relaxed) <= 8192, "a read had room for {most:?} bytes");
    }

    #[tokio::test]
    async fn a_preface_that_arrives_in_two_parts_is_http2_and_loses_no_byte() {
        let (mut client, server) = duplex(1024);
        let mut opening = Opening::new(server);
        client.write_all(&PREFACE[..5]).await.unwrap();
        assert!(opening.version().now_or_never().is_none());
        client.write_all(&PREFACE[5..]).await.unwrap();
        client.write_all(b"settings").await.unwrap();
        assert_eq!(opening.version().await.unwrap(), Version::Http2);
        drop(client);
        let mut all = Vec::new();
        opening.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [PREFACE, b"settings"].concat());
    }

    #[tokio::test]
    async fn a_connection_that_ends_inside_the_preface_is_http1_and_loses_no_byte() {
        let (mut client, server) = duplex(1024);
        client.write_all(b"PRI").await.unwrap();
        drop(client);
        let mut opening = Opening::new(server);
        assert_eq!(opening.version().await.unwrap(), Version::Http1);
        let mut all = Vec::new();
        opening.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"PRI");
    }
}
