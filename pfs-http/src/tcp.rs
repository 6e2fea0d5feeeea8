//! TCP socket for HTTP: its options, and the detection of clients that are gone.
//!
//! A FIN does not say whether the client is gone. `nc -N` sends a FIN after its request and still
//! reads; an interrupted `curl` leaves a FIN too. The next bytes that are sent show the difference,
//! because a socket that no process holds answers with a reset. An idle stream sends no bytes, so
//! this module checks actively. For a client on this machine, the module asks the kernel. For other
//! clients, it sends keepalive probes: Linux forgets a socket that no process holds after a minute
//! (`tcp_fin_timeout`), and resets the connection at the next probe.

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

/// TCP keepalive that detects a vanished peer after two minutes. Nothing else ends an idle
/// connection. While data is in flight, the retransmission timeout of the system applies (15 to 30
/// minutes on Linux). Neither ends the connection of a process that is only paused: its system
/// still answers.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// TCP keepalive of a connection whose client has closed its sending direction.
const HALF_CLOSED_KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(5))
    .with_interval(Duration::from_secs(5))
    .with_retries(4);

/// Number of unsent bytes that the kernel buffers for a client that does not
/// read (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 256 * 1024;

/// Time that a client may take to acknowledge the last bytes of a broken response.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between checks whether the client has acknowledged the last bytes.
const ABORT_INTERVAL: Duration = Duration::from_millis(10);

/// Interval between checks whether a client is gone.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Socket for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn prepare(&self) {
        let socket = SockRef::from(self);
        // The options improve performance and cleanup; the connection also works without them.
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

    /// Sets `SO_LINGER` to zero if `resets`, so that the kernel resets the connection when it
    /// closes the socket of a killed process. See [`abort`](Self::abort) for the advantage of
    /// a reset.
    fn reset_when_killed(&self, resets: bool) {
        let _ = SockRef::from(self).set_linger(resets.then_some(Duration::ZERO));
    }

    fn shutdown(&self) -> io::Result<()> {
        // Without `SO_LINGER`, the kernel goes on sending the bytes that the client has
        // not received.
        let _ = SockRef::from(self).set_linger(None);
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    /// Resets the connection. ffmpeg takes a FIN for the end of the stream, even if the last chunk
    /// of a chunked body is missing; wget does so inside a chunk. A reset makes the kernel drop its
    /// unsent bytes, so this method first waits until the client has acknowledged all bytes. If the
    /// client does not, the connection ends with a FIN.
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
        // Interest in readable data would return at once for a pipelined request that has not been
        // read yet. Interest in priority data reports the same end, and nothing else unless the
        // client sends urgent data.
        while let Ok(ready) = self.ready(Interest::PRIORITY).await {
            if ready.is_read_closed() {
                // If this fails, a client that vanishes is only noticed later.
                let _ = SockRef::from(self).set_tcp_keepalive(&HALF_CLOSED_KEEPALIVE);
                return;
            }
            // Urgent data has no meaning here. A client that sends it continuously must not keep
            // this loop busy.
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

/// Whether the client is on this machine and no process holds its socket.
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

    /// Longer than any operation in these tests.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    /// Creates a connection whose server side is ready to write.
    async fn connection() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.writable().await.unwrap();
        (client, server)
    }

    /// Resets the connection, and consumes the error with a write before the runtime polls epoll.
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
