//! The accept loop: lets clients in up to the limit, and sees to it that they all end with the daemon.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use pfs_host::{DRAIN_TIMEOUT, Daemon, Failure, expire};
use pfs_proto::ErrorCode;
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::{config::Shm, http_listener::HttpListener, spare::Spare, unix};

/// Why a client is refused when the system has no descriptor for it.
pub(crate) const NO_DESCRIPTORS: &str =
    "the daemon has no file descriptor left; raise its limit on open files (ulimit -n)";

/// How long to wait when a connection cannot be accepted.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `daemon` on `listener` until `shutdown` is ready; then tells every client that the daemon is going, and
/// returns when all have gone, after at most five seconds.
pub async fn run(listener: UnixListener, daemon: Arc<Daemon>, shutdown: impl Future<Output = ()>) {
    serve(listener, None, daemon, Shm::default(), shutdown).await;
}

/// As [`run`], with HTTP where there is a listener for it.
pub(crate) async fn serve(
    listener: UnixListener,
    http: Option<HttpListener>,
    daemon: Arc<Daemon>,
    shm: Shm,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    // Dropped before the connections, should this not come to its end: then they are cut because the daemon ends, and none
    // of their writers has died.
    let _cut = daemon.shutdown().clone().drop_guard();
    if let Some(http) = http {
        connections.spawn(http.run(Arc::clone(&daemon)));
    }
    let mut expiry = JoinSet::new();
    expiry.spawn(expire(Arc::clone(&daemon)));
    let mut shutdown = pin!(shutdown);
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if spare.refuse(&error, &listener, &refusal(NO_DESCRIPTORS.to_owned())) {
                    tracing::warn!("connection refused: {NO_DESCRIPTORS}");
                } else {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Some(place) = daemon.admit() else {
            refuse(&stream, daemon.max_connections());
            continue;
        };
        let daemon = Arc::clone(&daemon);
        connections.spawn(async move {
            unix::serve(stream, daemon, shm).await;
            drop(place);
        });
    }

    drop(listener);
    tracing::info!(connections = connections.len(), "shutting down");
    daemon.shutdown().cancel();
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    if timeout(DRAIN_TIMEOUT, all).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not end in time and are cut");
        connections.shutdown().await;
    }
}

/// Tells one client too many why it is not served. Its socket is new and empty, so nothing has to wait.
fn refuse(stream: &UnixStream, limit: usize) {
    let message = format!(
        "the daemon has {limit} connections already; raise limits.max_connections, or its limit on open files (ulimit -n)"
    );
    tracing::warn!(limit, "connection refused: too many");
    match stream.try_write(&refusal(message)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => tracing::debug!(%error, "cannot tell a client that there are too many"),
    }
}

/// The reply to a client that is not served.
fn refusal(message: String) -> BytesMut {
    let mut reply = BytesMut::new();
    Failure::new(ErrorCode::Limit, message).reply().encode(&mut reply);
    reply
}

pub(crate) fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic; this is a bug in pfsd");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pfs_host::Settings;
    use pfs_http::Setup;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        time::{Instant, pause},
    };

    use super::*;

    #[tokio::test]
    async fn idle_connections_over_http_do_not_hold_the_end_up() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let address = Some((Ipv4Addr::LOCALHOST, 0).into());
        let setup = Setup::prepare(&[], &pfs_http::settings::Settings::default(), address).unwrap().unwrap();
        let http = HttpListener::bind(setup).unwrap();
        let address = http.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let daemon = Arc::new(Daemon::new(&Settings::default()));
        let serving = tokio::spawn(serve(listener, Some(http), daemon, Shm::default(), async {
            let _ = stopped.await;
        }));
        let mut idle = Vec::new();
        for _ in 0..10 {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
            connection.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0);
            }
            idle.push(connection);
        }
        // From now on time passes only where nobody can do anything: who waits for a client lets it pass.
        pause();
        let begun = Instant::now();
        stop.send(()).unwrap();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for mut connection in idle {
            assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
