//! Accept loop and graceful shutdown: admits clients up to the limit, and ends all connections with
//! the daemon.

use std::{future::Future, io, iter, mem, pin::pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use pfs_host::{
    DRAIN_TIMEOUT, Daemon, Failure, exit_when_idle, expire,
    refusals::{self, Asked, Reason},
};
use pfs_proto::ErrorCode;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::{config::Shm, heap, http_listener::HttpListener, spare::Spare, unix};

/// The reason sent to a client that is refused for lack of a file descriptor.
pub(crate) const NO_DESCRIPTORS: &str =
    "the daemon has no file descriptor left; raise its limit on open files (ulimit -n)";

/// Delay before the next attempt when a connection cannot be accepted.
pub(crate) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves `daemon` on `listener` until `shutdown` is ready or a client stops the daemon. Then tells
/// every client about the shutdown, and returns when all clients have gone, after at most
/// five seconds.
pub async fn run(listener: UnixListener, daemon: Arc<Daemon>, shutdown: impl Future<Output = ()>) {
    let (_, none) = mpsc::channel(1);
    serve(listener, none, None, daemon, Shm::default(), shutdown).await;
}

/// Like [`run`], but also serves HTTP if there is an HTTP listener. Each listener from
/// `replacements` replaces the previous one, whose file was deleted.
pub(crate) async fn serve(
    mut listener: UnixListener,
    mut replacements: mpsc::Receiver<UnixListener>,
    http: Option<HttpListener>,
    daemon: Arc<Daemon>,
    shm: Shm,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    // Cancels the shutdown token if this future is dropped early. The guard is dropped before
    // `connections`. So the connections are cut by a shutdown, and their writers do not count
    // as dead.
    let _cut = daemon.shutdown().clone().drop_guard();
    if let Some(http) = http {
        connections.spawn(http.run(Arc::clone(&daemon)));
    }
    let mut upkeep = JoinSet::new();
    upkeep.spawn(expire(Arc::clone(&daemon)));
    upkeep.spawn(refusals::report(Arc::clone(&daemon)));
    upkeep.spawn(heap::give_back(Arc::clone(&daemon)));
    upkeep.spawn(exit_when_idle(Arc::clone(&daemon)));
    let mut shutdown = pin!(shutdown);
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = daemon.shutdown().cancelled() => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
            Some(replacement) = replacements.recv() => {
                let before = mem::replace(&mut listener, replacement);
                for stream in waiting(before) {
                    let_in(stream, &daemon, shm, &mut connections);
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => let_in(stream, &daemon, shm, &mut connections),
            Err(error) => {
                if spare.refuse(&error, &listener, &refusal(NO_DESCRIPTORS.to_owned())) {
                    daemon.refusals().refuse(
                        Reason::Descriptors,
                        &Asked::default(),
                        NO_DESCRIPTORS,
                    );
                } else {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
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
        tracing::warn!(
            connections = connections.len(),
            "connections did not end in time and were cut off"
        );
        connections.shutdown().await;
    }
    daemon.refusals().finish();
}

/// Serves a client in a task of its own, or refuses it if there are too many.
fn let_in(stream: UnixStream, daemon: &Arc<Daemon>, shm: Shm, connections: &mut JoinSet<()>) {
    let Some(place) = daemon.admit() else {
        refuse(&stream, daemon);
        return;
    };
    let daemon = Arc::clone(daemon);
    connections.spawn(async move {
        unix::serve(stream, daemon, shm).await;
        drop(place);
    });
}

/// Accepts the clients that had connected before the listener's file was deleted and are still in
/// its queue.
fn waiting(listener: UnixListener) -> impl Iterator<Item = UnixStream> {
    let listener = listener.into_std().ok();
    iter::from_fn(move || {
        let (stream, _) = listener.as_ref()?.accept().ok()?;
        stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)).ok()
    })
}

/// Tells a client why it is refused. The client's socket is new and empty, so the write need
/// not wait.
fn refuse(stream: &UnixStream, daemon: &Daemon) {
    let refusal = if daemon.shutdown().is_cancelled() {
        encoded(Failure::shutting_down())
    } else {
        let message = format!(
            "the daemon has {} connections already; raise limits.max_connections, or its limit on open files (ulimit -n)",
            daemon.max_connections()
        );
        daemon.refusals().refuse(Reason::Connections, &(&unix::caller(stream)).into(), &message);
        refusal(message)
    };
    match stream.try_write(&refusal) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            tracing::debug!(%error, "cannot tell a client that the daemon has too many connections")
        }
    }
}

/// Encodes the reply to a client that is not served.
fn refusal(message: String) -> BytesMut {
    encoded(Failure::new(ErrorCode::Limit, message))
}

fn encoded(failure: Failure) -> BytesMut {
    let mut reply = BytesMut::new();
    failure.reply().encode(&mut reply);
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
    async fn idle_http_connections_do_not_delay_the_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let address = Some((Ipv4Addr::LOCALHOST, 0).into());
        let settings =
            pfs_http::settings::Settings { address, ..pfs_http::settings::Settings::default() };
        let setup = Setup::prepare(&[], &settings).unwrap().unwrap();
        let daemon = Arc::new(Daemon::new(&Settings::default()));
        let http = HttpListener::bind(setup, Arc::clone(&daemon)).unwrap();
        let address = http.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(
            listener,
            mpsc::channel(1).1,
            Some(http),
            daemon,
            Shm::default(),
            async {
                let _ = stopped.await;
            },
        ));
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
        // From now on the clock advances only while all tasks are idle, so waiting for a client
        // would take measurable time.
        pause();
        let begun = Instant::now();
        stop.send(()).unwrap();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for mut connection in idle {
            assert_eq!(
                connection.read_u8().await.unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
    }
}
