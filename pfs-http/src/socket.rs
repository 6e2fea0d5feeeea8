//! The socket beneath a connection: what HTTP needs of it, and its end in a way that the client
//! understands.

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

/// How long a client may take to read the last answer while it is still sending.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// A connected socket, both directions. [`Server::serve`](crate::Server::serve) serves HTTP on it.
///
/// `TcpStream` implements this trait. Programs that embed the server implement it for other
/// sockets, or for a pipe in memory.
///
/// Methods take `&self`, because HTTP reads and writes while the server watches whether the client
/// is still there. One task reads and writes; several may wait for the client's end.
pub trait Socket: Send + Sync + 'static {
    /// The address that the client connected to. A request may name it as its `Host`.
    ///
    /// # Errors
    ///
    /// The system does not know it, because the connection is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sets options. Called once, before the first byte.
    fn prepare(&self) {}

    /// Reads what is here. No bytes at the end of what the client sends.
    ///
    /// # Errors
    ///
    /// The connection broke.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Writes as much of these bytes as fits now, at least one, and returns how many.
    ///
    /// # Errors
    ///
    /// The client can read nothing more ([`BrokenPipe`](io::ErrorKind::BrokenPipe),
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset)), or the connection broke.
    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Ends this side: the client reads what was written, and then the end. Reading goes on.
    ///
    /// # Errors
    ///
    /// The connection broke.
    fn shutdown(&self) -> io::Result<()>;

    /// Sets whether the system resets the connection when this process is killed, if it can: a
    /// client then reads an error after the bytes that it has received, not the end.
    fn reset_when_killed(&self, resets: bool) {
        let _ = resets;
    }

    /// Ends the connection as broken, for a response that did not come to its end: the client reads
    /// the bytes that were written, and then an error if the system can give one. The
    /// connection is dropped afterwards.
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

    /// Waits until the client has ended its side, or is gone. What it sent before may be unread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    fn half_closed(&self) -> impl Future<Output = ()> + Send;

    /// Waits until the client can read nothing more. What it sent before may be unread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

/// A socket that tells [`Activity`] when bytes arrive. The connection holds the socket too, and
/// ends it.
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

/// Ends a connection so that the client hears what it was told last, and these final bytes: if it
/// is still sending when the socket is closed, its system throws away what it has not read.
pub(super) async fn linger<S: Socket>(socket: &S, final_bytes: &[u8]) {
    if !final_bytes.is_empty() {
        // There is room for them when nothing else was said, and only then have they a meaning.
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

    /// Writes as soon as the socket takes something. A client that takes nothing any more is told
    /// the rest in vain: an error would make the server drop what the client said before, which
    /// still counts. Its end is seen by reading, or by `half_close`.
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

    /// Does nothing: a socket holds nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown())
    }
}
