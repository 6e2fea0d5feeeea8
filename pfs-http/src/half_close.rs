//! Half-closed connections: tells a client that ended only its own side from one that is gone.
//!
//! A FIN looks the same in both cases. `nc -N` sends one behind its request and reads on; a `curl` that was interrupted leaves
//! one. The next bytes that are sent show the difference, because a socket that no process holds answers them with a
//! reset. A quiet stream sends none, so this module asks instead: the kernel, if the client is on this machine, and
//! otherwise the client's own system, by keepalive probes. Linux forgets such a socket after a minute
//! (`tcp_fin_timeout`), and resets the connection at the next probe.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{activity::Activity, connection::Connected, operations::Protocol, sock_diag};

/// Keepalive of a connection whose client has ended its side.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(5))
    .with_interval(Duration::from_secs(5))
    .with_retries(4);

/// Between two looks at a client that has ended its side.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the client of an HTTP/1.1 request can no longer read its answer. While the server still reads the request it
/// notices by itself, as it does over HTTP/2. Cancel safe.
pub(super) async fn departed(stream: &TcpStream, connected: Connected, activity: &Activity) {
    has_ended_its_side(stream).await;
    // Without it a client that vanishes is noticed later, and that is all.
    let _ = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE);
    let mut is_reset = false;
    loop {
        match activity.is_only_answering() {
            // `pfs` never ends its side alone.
            Some(Protocol::Frames) => return,
            Some(_) if is_reset || no_process_reads(connected) => return,
            _ => {}
        }
        if is_reset {
            sleep(LOOK_INTERVAL).await;
        } else {
            is_reset = timeout(LOOK_INTERVAL, stream.ready(Interest::ERROR)).await.is_ok();
        }
    }
}

/// Waits for the client's FIN, or for the end of the whole connection. What the client sent before may still be unread.
async fn has_ended_its_side(stream: &TcpStream) {
    // Interest in readable data would return at once for a second request that is not read yet. Interest in priority data
    // reports the same end, and nothing else unless the client sends urgent data.
    while let Ok(ready) = stream.ready(Interest::PRIORITY).await {
        if ready.is_read_closed() {
            return;
        }
        // Urgent data, which has no meaning here. A client that sends it all the time must not keep this busy.
        sleep(LOOK_INTERVAL).await;
    }
}

/// Whether the client is on this machine, and its socket belongs to no process any more.
fn no_process_reads(connected: Connected) -> bool {
    let Connected { remote, local, .. } = connected;
    (remote.ip().to_canonical().is_loopback() || remote.ip() == local.ip())
        && sock_diag::is_orphan(remote, local).unwrap_or(false)
}
