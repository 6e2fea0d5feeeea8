//! Transport of an HTTP connection, and graceful close: the client receives the last response.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::activity::Activity;

/// Time that a client may take to read the last response while it is still sending.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Connected socket with two directions. [`Server::serve`](crate::Server::serve) serves HTTP on it.
///
/// `TcpStream` implements this trait. Programs that embed the server implement it for other
/// sockets, or for a pipe in memory.
///
/// Methods take `&self`, because HTTP reads and writes while the server watches for a disconnect.
/// One task reads and writes; several may wait for a disconnect.
pub trait Socket: Send + Sync + 'static {
    /// Returns the address that the client connected to. A request may use this address as
    /// its `Host`.
    ///
    /// # Errors
    ///
    /// The system does not know the address, because the connection is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sets socket options. Called once, before the first byte.
    fn prepare(&self) {}

    /// Reads the available bytes. Reads no bytes at the end of the client's direction.
    ///
    /// # Errors
    ///
    /// The connection broke.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Writes as many of the bytes as fit now, at least one, and returns their number.
    ///
    /// # Errors
    ///
    /// The client can read nothing more ([`BrokenPipe`](io::ErrorKind::BrokenPipe),
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset)), or the connection broke.
    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Closes the sending direction: the client reads the bytes that were written, and then the
    /// end. Reading goes on.
    ///
    /// # Errors
    ///
    /// The connection broke.
    fn shutdown(&self) -> io::Result<()>;

    /// Sets whether the system, if it can, resets the connection when this process is killed. A
    /// client then reads an error after the bytes that it has received, instead of the end.
    fn reset_when_killed(&self, resets: bool) {
        let _ = resets;
    }

    /// Ends the connection as broken, for a response that did not end properly: the client reads
    /// the bytes that were written, and then an error if the system can deliver one. The connection
    /// is dropped afterwards.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it is pending, the client reads the bytes that were written,
    /// and then the end.
    fn abort(&self) -> impl Future<Output = ()> + Send {
        async {
            let _ = self.shutdown();
        }
    }

    /// Waits until the client has closed its sending direction, or is gone. Bytes that it sent
    /// before may be unread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    fn half_closed(&self) -> impl Future<Output = ()> + Send;

    /// Waits until the client can read nothing more. Bytes that it sent before may be unread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

/// Socket that reports reads and writes to [`Activity`]. The connection holds the socket too, and
/// closes it.
#[derive(Debug)]
pub(super) struct Tracked<S> {
    socket: Arc<S>,
    activity: Arc<Activity>,
}

impl<S: Socket> Tracked<S> {
    pub(super) fn new(socket: Arc<S>, activity: Arc<Activity>) -> Self {
        socket.prepare();
        Self { socket, activity }
    }
}

/// Closes a connection gracefully: sends `final_bytes`, and gives the client time to read the last
/// response. If the client were still sending when the socket is closed, its system would discard
/// the response that it has not read.
pub(super) async fn linger<S: Socket>(socket: &S, final_bytes: &[u8]) {
    if !final_bytes.is_empty() {
        // If no response was sent before, the socket has room for these bytes. Otherwise the bytes
        // would mean nothing to the client, and may be lost.
        let words = [IoSlice::new(final_bytes)];
        let _ = poll_fn(|cx| Poll::Ready(socket.poll_write(cx, &words))).await;
    }
    if socket.shutdown().is_err() {
        return;
    }
    let drained = async {
        let mut nowhere = vec![0; 16 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut nowhere);
            let read = poll_fn(|cx| socket.poll_read(cx, &mut buf)).await;
            if read.is_err() || buf.filled().is_empty() {
                return;
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, drained).await;
}

impl<S: Socket> AsyncRead for Tracked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read(cx, buf))?;
        self.activity.received();
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Tracked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Writes as soon as the socket accepts bytes. If the client has stopped reading, the bytes are
    /// discarded without an error: an error would make hyper drop the bytes that the client sent
    /// before, which still count. The disconnect is detected by reading, or by `half_close`.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket.poll_write(cx, bufs);
        self.activity.writes(written.is_pending());
        match ready!(written) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
            }
            written => Poll::Ready(written),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: a socket buffers nothing in this process.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown())
    }
}
