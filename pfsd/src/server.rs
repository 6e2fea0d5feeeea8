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

use crate::{http_listener::HttpListener, unix};

/// How long to wait when the system gives no descriptor for one more connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `daemon` on `listener` until `shutdown` is ready; then tells every client that the daemon is going, and
/// returns when all have gone, after at most five seconds.
pub async fn run(listener: UnixListener, daemon: Arc<Daemon>, shutdown: impl Future<Output = ()>) {
    serve(listener, None, daemon, shutdown).await;
}

/// As [`run`], with HTTP where there is a listener for it.
pub(crate) async fn serve(
    listener: UnixListener,
    http: Option<HttpListener>,
    daemon: Arc<Daemon>,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    if let Some(http) = http {
        connections.spawn(http.run(Arc::clone(&daemon)));
    }
    let mut expiry = JoinSet::new();
    expiry.spawn(expire(Arc::clone(&daemon)));
    let mut shutdown = pin!(shutdown);
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
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = daemon.admit() else {
            refuse(&stream, daemon.max_connections());
            continue;
        };
        let daemon = Arc::clone(&daemon);
        connections.spawn(async move {
            unix::serve(stream, daemon).await;
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
    let message = format!("the daemon has {limit} connections already; raise limits.max_connections");
    tracing::warn!(limit, "connection refused: too many");
    let mut reply = BytesMut::new();
    Failure::new(ErrorCode::Limit, message).reply().encode(&mut reply);
    match stream.try_write(&reply) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => tracing::debug!(%error, "cannot tell a client that there are too many"),
    }
}

pub(crate) fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic; this is a bug in pfsd");
    }
}
