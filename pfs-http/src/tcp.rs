//! TCP as the socket of HTTP: its options, and whether a client that ended its side is gone.
//!
//! A FIN looks the same in both cases. `nc -N` sends one behind its request and reads on; a `curl`
//! that was interrupted leaves one. The next bytes that are sent show the difference, because a
//! socket that no process holds answers them with a reset. A quiet stream sends none, so this
//! module asks instead: the kernel, if the client is on this machine, and otherwise the client's
//! own system, by keepalive probes. Linux forgets such a socket after a minute (`tcp_fin_timeout`),
//! and resets the connection at the next probe.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{Interest, ReadBuf},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{sock_diag, socket::Socket};

/// A peer that vanished without a word is noticed after two minutes: nothing else ends a connection
/// on which nothing has to happen. While something is on its way to it, the system's own patience
/// counts (15 to 30 minutes on Linux). Neither ends one whose process only pauses: its system still
/// answers.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Keepalive of a connection whose client has ended its side.
const HALF_CLOSED_KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(5))
    .with_interval(Duration::from_secs(5))
    .with_retries(4);

/// What the kernel takes for a reader that does not read, besides what is on its way already.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 256 * 1024;

/// How long a client may take to acknowledge the last bytes of a response that broke.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at whether the client has acknowledged them.
const ABORT_INTERVAL: Duration = Duration::from_millis(10);

/// Time between two looks at whether a client is gone.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Socket for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn prepare(&self) {
        let socket = SockRef::from(self);
        // None of these is needed for what is right, only for what is good.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&KEEPALIVE);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// See [`abort`](Self::abort).
    fn reset_when_killed(&self, resets: bool) {
        let _ = SockRef::from(self).set_linger(resets.then_some(Duration::ZERO));
    }

    fn shutdown(&self) -> io::Result<()> {
        // The kernel goes on sending what the client has not got.
        let _ = SockRef::from(self).set_linger(None);
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    /// Resets the connection. ffmpeg takes a FIN for the end of the stream, also if the last chunk
    /// of a chunked body is missing; so does wget inside of a chunk. A reset makes the kernel
    /// drop the bytes that it has not sent, so this waits until the client has acknowledged all
    /// bytes. If the client does not, the connection ends with a FIN.
    async fn abort(&self) {
        let _ = SockRef::from(self).set_linger(None);
        let Ok((remote, local)) =
            self.peer_addr().and_then(|remote| Ok((remote, self.local_addr()?)))
        else {
            return;
        };
        let acknowledged = async {
            loop {
                match sock_diag::is_acknowledged(local, remote) {
                    Ok(false) => sleep(ABORT_INTERVAL).await,
                    known => return known.is_ok(),
                }
            }
        };
        if timeout(ABORT_TIMEOUT, acknowledged).await.unwrap_or(false) {
            let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
        }
    }

    /// Waits for the client's FIN, or for the end of the whole connection.
    async fn half_closed(&self) {
        // Interest in readable data would return at once for a second request that is not read yet.
        // Interest in priority data reports the same end, and nothing else unless the client sends
        // urgent data.
        while let Ok(ready) = self.ready(Interest::PRIORITY).await {
            if ready.is_read_closed() {
                // Without it a client that vanishes is noticed later, and that is all.
                let _ = SockRef::from(self).set_tcp_keepalive(&HALF_CLOSED_KEEPALIVE);
                return;
            }
            // Urgent data, which has no meaning here. A client that sends it all the time must not
            // keep this busy.
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn hung_up(&self) {
        // `peer_addr` fails once the connection is reset. `Interest::ERROR` misses a reset whose
        // error a failed write has consumed before epoll reported it.
        while let (Ok(remote), Ok(local)) = (self.peer_addr(), self.local_addr()) {
            let is_over = is_orphan(remote, local)
                || timeout(POLL_INTERVAL, self.ready(Interest::ERROR)).await.is_ok();
            if is_over {
                return;
            }
        }
    }
}

/// Whether the client is on this machine, and its socket belongs to no process any more.
fn is_orphan(remote: SocketAddr, local: SocketAddr) -> bool {
    (remote.ip().to_canonical().is_loopback() || remote.ip() == local.ip())
        && sock_diag::is_orphan(remote, local).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than anything here takes.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    /// Both ends of a connection, of which the server's can be written to.
    async fn connection() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.writable().await.unwrap();
        (client, server)
    }

    /// Resets the connection, and consumes the error by a write before the runtime polls epoll.
    fn reset(client: std::net::TcpStream, server: &TcpStream) {
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        while server.try_write(b"x").is_ok() {}
    }

    #[tokio::test]
    async fn a_reset_is_noticed_although_a_write_has_consumed_its_error() {
        let (client, server) = connection().await;
        reset(client, &server);
        let hung_up = async {
            server.half_closed().await;
            server.hung_up().await;
        };
        timeout(TEST_TIMEOUT, hung_up).await.expect("the client is gone");
    }

    #[tokio::test]
    async fn a_reset_is_noticed_while_waiting_although_a_write_consumes_its_error() {
        let (client, server) = connection().await;
        let mut hung_up = std::pin::pin!(server.hung_up());
        assert!(hung_up.as_mut().now_or_never().is_none());
        reset(client, &server);
        timeout(TEST_TIMEOUT, hung_up).await.expect("the client is gone");
    }
}
