//! In-memory pipe, used as the socket of a connection.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use pfs_http::Socket;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::watch,
};

/// Server's end of a pipe.
pub(crate) struct Far {
    stream: Mutex<DuplexStream>,
    /// Whether the client has closed its sending direction. If the sender is dropped, the client is
    /// gone.
    client: watch::Receiver<bool>,
}

/// Client's end of a pipe.
pub(crate) struct Near {
    stream: DuplexStream,
    ended: watch::Sender<bool>,
}

/// Creates a pipe that holds `capacity` bytes in each direction.
pub(crate) fn new(capacity: usize) -> (Far, Near) {
    let (far, near) = duplex(capacity);
    let (ended, client) = watch::channel(false);
    (Far { stream: Mutex::new(far), client }, Near { stream: near, ended })
}

impl Far {
    fn stream(&self) -> MutexGuard<'_, DuplexStream> {
        self.stream.lock().unwrap()
    }
}

impl Socket for Far {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(super::address())
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(cx, buf)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write_vectored(cx, bufs)
    }

    fn shutdown(&self) -> io::Result<()> {
        let mut stream = self.stream();
        let Poll::Ready(ended) =
            pin!(stream.shutdown()).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("a pipe in memory ends at once");
        };
        ended
    }

    async fn half_closed(&self) {
        // An error means that both directions have ended.
        let _ = self.client.clone().wait_for(|ended| *ended).await;
    }

    async fn hung_up(&self) {
        let mut client = self.client.clone();
        while client.changed().await.is_ok() {}
    }
}

impl Near {
    /// Closes the client's sending direction. Reading goes on.
    pub(crate) async fn end_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
        self.ended.send_replace(true);
    }
}

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Near {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
