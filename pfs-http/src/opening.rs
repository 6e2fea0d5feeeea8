//! Protocol sniffing: the first bytes of a connection say whether the client speaks HTTP/2.
//!
//! hyper-util reads them, at most 24, and replays them to HTTP/1.1 as a read of their own. hyper
//! reserves 8 KiB before each read and keeps its buffer for as long as the connection lives: the second
//! read doubled the buffer, and an idle reader of server-sent events held 16 KiB for a request of 150
//! bytes. [`Opening`] keeps the first bytes itself, so that hyper reads a whole request at once.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The size of the first read, in bytes. The headers of most requests are smaller.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// A connection that tells hyper-util the version of HTTP.
#[derive(Debug)]
pub(super) struct Opening<I> {
    io: I,
    /// Bytes that were read and that HTTP has not got.
    first: Vec<u8>,
    is_known: bool,
}

impl<I> Opening<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, first: Vec::new(), is_known: false }
    }
}

impl<I: AsyncRead + Unpin> Opening<I> {
    /// Reads until the version is known: the bytes differ from [`PREFACE`], or they are the whole of it.
    fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; FIRST_READ_BYTES];
        while !self.is_known {
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            self.first.extend_from_slice(buf.filled());
            let may_be_preface = PREFACE.starts_with(&self.first) && self.first.len() < PREFACE.len();
            self.is_known = buf.filled().is_empty() || !may_be_preface;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_known {
            ready!(this.poll_version(cx))?;
            if !this.first.starts_with(PREFACE) {
                // hyper-util takes a read without bytes for HTTP/1.1, and has nothing to replay.
                return Poll::Ready(Ok(()));
            }
        }
        if this.first.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let rest = this.first.split_off(this.first.len().min(buf.remaining()));
        buf.put_slice(&mem::replace(&mut this.first, rest));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
    use hyper::{Response, service::service_fn};
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const REQUEST: &[u8] =
        b"PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    /// A connection that records the most room that a read had.
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
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
        let (mut client, server) = duplex(1 << 20);
        client.write_all(REQUEST).await.unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let io = TokioIo::new(Recorder { opening: Opening::new(server), most: Arc::clone(&most) });
        let service =
            service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::from("an answer over HTTP/1.1"))));
        auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("an answer over HTTP/1.1"), "{answer}");
        assert!(most.load(Relaxed) <= 8192, "a read had room for {most:?} bytes");
    }

    #[tokio::test]
    async fn a_preface_that_arrives_in_two_parts_is_read_whole_before_what_follows() {
        let (mut client, server) = duplex(1024);
        let mut opening = Opening::new(server);
        let mut first = [0; 24];
        client.write_all(&PREFACE[..5]).await.unwrap();
        assert!(opening.read(&mut first).now_or_never().is_none());
        client.write_all(&PREFACE[5..]).await.unwrap();
        client.write_all(b"settings").await.unwrap();
        assert_eq!(opening.read(&mut first).await.unwrap(), PREFACE.len());
        assert_eq!(first, PREFACE);
        let mut rest = [0; 8];
        opening.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"settings");
    }

    #[tokio::test]
    async fn a_connection_that_ends_inside_of_the_preface_is_http1_and_loses_no_byte() {
        let (mut client, server) = duplex(1024);
        client.write_all(b"PRI").await.unwrap();
        drop(client);
        let mut opening = Opening::new(server);
        assert_eq!(opening.read(&mut [0; 24]).await.unwrap(), 0, "hyper-util takes it for HTTP/1.1");
        let mut all = Vec::new();
        opening.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"PRI");
    }
}
