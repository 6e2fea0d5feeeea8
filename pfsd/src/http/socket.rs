//! The TCP socket of a connection, which comes back when HTTP is done with it, to be ended in a way that the other side
//! understands.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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

/// A socket that tells [`Activity`] when something comes.
#[derive(Debug)]
pub(super) struct Socket {
    /// Missing only while this is dropped.
    stream: Option<TcpStream>,
    activity: Arc<Activity>,
    back: Back,
}

/// Where the socket is found once nobody uses it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Back(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, back: Back) -> Self {
        let socket = SockRef::from(&stream);
        // None of these is needed for what is right, only for what is good.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&KEEPALIVE);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        Self { stream: Some(stream), activity, back }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl Back {
    fn stream(&self) -> Option<TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the connection so that the client hears what it was told last, and these last words: if it is still sending
    /// when the socket is closed, its system throws away what it has not read.
    pub(super) async fn linger(&self, last_words: &[u8]) {
        let Some(stream) = self.stream() else { return };
        if !last_words.is_empty() {
            // There is room for them when nothing else was said, and only then have they a meaning.
            let _ = stream.try_write(last_words);
        }
        if SockRef::from(&stream).shutdown(Shutdown::Write).is_err() {
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
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.stream()?.poll_read(cx, buf))?;
        self.activity.received();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
