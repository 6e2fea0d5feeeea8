//! The TCP socket of a connection, and its end in a way that the other side understands.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::activity::Activity;

/// A peer that vanished without a word is noticed after two minutes: nothing else ends a connection on which nothing
/// has to happen. While something is on its way to it, the system's own patience counts (15 to 30 minutes on Linux). Neither
/// ends one whose process only pauses: its system still answers.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// What the kernel takes for a reader that does not read, besides what is on its way already.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 256 << 10;

/// How long a client may take to read the last answer while it is still sending.
const LINGER: Duration = Duration::from_secs(1);

/// A socket that tells [`Activity`] when something comes. Its maker holds the connection too, and ends it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    activity: Arc<Activity>,
}

impl Socket {
    pub(super) fn new(stream: Arc<TcpStream>, activity: Arc<Activity>) -> Self {
        let socket = SockRef::from(&stream);
        // None of these is needed for what is right, only for what is good.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&KEEPALIVE);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        Self { stream, activity }
    }

    /// Writes as soon as the system takes something. A client that takes nothing any more is told the rest in vain: an error would
    /// make the server drop what the client said before, which still counts. Its end is seen by reading, or by `half_close`.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        len: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
                {
                    return Poll::Ready(Ok(len));
                }
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Ends a connection so that the client hears what it was told last, and these last words: if it is still sending when
/// the socket is closed, its system throws away what it has not read.
pub(super) async fn linger(stream: &TcpStream, last_words: &[u8]) {
    if !last_words.is_empty() {
        // There is room for them when nothing else was said, and only then have they a meaning.
        let _ = stream.try_write(last_words);
    }
    if SockRef::from(stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let drained = async {
        let mut nowhere = vec![0; 16 << 10];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut nowhere) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(LINGER, drained).await;
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    read?;
                    self.activity.received();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, len, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the socket holds nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.stream).shutdown(Shutdown::Write))
    }
}
