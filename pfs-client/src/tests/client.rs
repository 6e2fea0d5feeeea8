//! Tests of the client, over a real Unix socket.

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use pfs_proto::{Hello, HopStat, MAX_HOPS, Reply, Request, VERSION};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixSocket},
    time::timeout,
};

use super::daemon::{Daemon, path, promptly};
use crate::{
    Client, ConnectError, CreateOptions, DaemonInfo, Endpoint, ErrorCode, Peer, ProtocolError,
    ReadOptions, RequestError, State, StreamSummary, WriteOptions, WriterStat, lookup::Lookup,
};

/// A Unix socket in its own directory.
pub(super) struct Socket {
    directory: TempDir,
    listener: UnixListener,
}

impl Socket {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("pfsd.sock")).unwrap();
        Self { directory, listener }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("pfsd.sock")
    }

    pub(super) async fn connect(&self) -> Result<Client, ConnectError> {
        Client::connect(Endpoint::Unix(self.path())).await
    }

    /// Accepts the next connection, and returns the daemon's end before any message.
    pub(super) async fn accept(&self) -> Daemon {
        Daemon::new(Box::new(self.listener.accept().await.unwrap().0))
    }

    pub(super) async fn client(&self) -> (Client, Daemon) {
        let (client, daemon) = tokio::join!(self.connect(), async {
            let mut daemon = self.accept().await;
            daemon.welcome().await;
            daemon
        });
        (client.unwrap(), daemon)
    }

    /// Connects to a daemon that replies with `answer`, and returns the error.
    async fn connect_to(&self, answer: Reply) -> ConnectError {
        let (client, ()) = tokio::join!(self.connect(), async {
            self.accept().await.send(&answer).await;
        });
        client.unwrap_err()
    }
}

/// Runs a client's request and the daemon's replies to it.
async fn answered<T>(
    request: impl Future<Output = T>,
    daemon: &mut Daemon,
    expected: Request,
    replies: &[Reply],
) -> T {
    let (result, ()) = tokio::join!(request, async {
        assert_eq!(daemon.request().await, Some(expected));
        for reply in replies {
            daemon.send(reply).await;
        }
    });
    result
}

fn summary() -> StreamSummary {
    StreamSummary {
        path: path().to_string(),
        state: State::Open,
        created: UNIX_EPOCH,
        last_append: None,
        head: 1,
        tail: 0,
        writers: 1,
        readers: 0,
    }
}

fn info() -> DaemonInfo {
    DaemonInfo {
        version: "0.1.0".into(),
        pid: 7,
        started: UNIX_EPOCH,
        mounts: vec!["/streamfs".into()],
        streams: 1,
        max_streams: 2,
        memory: 3,
        max_memory: 4,
        connections: 5,
        max_connections: 6,
    }
}

#[tokio::test]
async fn a_socket_without_a_listener_is_reported_as_no_daemon() {
    let Socket { directory, listener } = Socket::new();
    let dead = directory.path().join("pfsd.sock");
    drop(listener);
    assert!(dead.exists(), "a daemon that died leaves its socket");
    for path in [dead, directory.path().join("missing.sock")] {
        let error = Client::connect(Endpoint::Unix(path.clone())).await.unwrap_err();
        assert!(
            matches!(&error, ConnectError::NoDaemon { path: told, .. } if *told == path),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_lookup_runs_on_connect_and_the_endpoint_then_names_the_socket_found() {
    let directory = tempfile::tempdir().unwrap();
    let lookup =
        Lookup::new(Some(directory.path().as_os_str()), rustix::process::geteuid().as_raw());
    let place = &lookup.places()[0];
    place.prepare().unwrap();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let (client, ()) = tokio::join!(Client::connect(Endpoint::Lookup(lookup.clone())), async {
        // The lookup's check whether a daemon answers.
        drop(listener.accept().await.unwrap());
        Daemon::new(Box::new(listener.accept().await.unwrap().0)).welcome().await;
    });
    assert_eq!(*client.unwrap().endpoint(), Endpoint::Unix(place.socket()));
}

#[tokio::test(start_paused = true)]
async fn many_clients_that_connect_at_once_are_all_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pfsd.sock");
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let clients: Vec<_> =
        (0..20).map(|_| tokio::spawn(Client::connect(Endpoint::Unix(path.clone())))).collect();
    // By now every client has tried to connect, and the queue is full.
    tokio::task::yield_now().await;
    promptly(async {
        for _ in &clients {
            let mut daemon = Daemon::new(Box::new(listener.accept().await.unwrap().0));
            daemon.welcome().await;
        }
        for client in clients {
            client.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_path_too_long_for_the_kernel_is_an_io_error() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
    let error = Client::connect(Endpoint::Unix(path)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_a_silent_daemon_times_out_after_5_seconds() {
    let socket = Socket::new();
    let error =
        timeout(Duration::from_secs(60), socket.connect()).await.expect("stuck").unwrap_err();
    assert!(
        matches!(error, ConnectError::TimedOut { after } if after == Duration::from_secs(5)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_version_mismatch_fails_on_whichever_side_notices_it() {
    let socket = Socket::new();
    let answered = async |answer: Reply| {
        let (client, ()) = tokio::join!(socket.connect(), async {
            // After the first refusal, the client asks for the daemon's version. The second answer
            // is the same.
            for _ in 0..2 {
                socket.accept().await.send(&answer).await;
            }
        });
        client.unwrap_err()
    };
    for (min_version, max_version) in [(VERSION + 1, VERSION + 1), (VERSION, VERSION + 1), (0, 0)] {
        let error =
            answered(Reply::Hello(Hello { min_version, max_version, capabilities: 0 })).await;
        assert!(matches!(error, ConnectError::Version { .. }), "{error:?}");
    }
    let error =
        answered(Reply::Error { code: ErrorCode::Version, message: "too old".into() }).await;
    assert!(
        matches!(&error, ConnectError::Version { message } if message == "too old"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refused_connection_reports_the_reason() {
    let socket = Socket::new();
    let refusal = Reply::Error { code: ErrorCode::Limit, message: "too many".into() };
    let error = socket.connect_to(refusal).await;
    assert!(matches!(error, ConnectError::Refused { code: ErrorCode::Limit, .. }), "{error:?}");
    let error = socket.connect_to(Reply::Done).await;
    assert!(matches!(error, ConnectError::Protocol(ProtocolError::Unexpected { .. })), "{error:?}");
    let (error, ()) = tokio::join!(socket.connect(), async { drop(socket.accept().await) });
    assert!(matches!(error, Err(ConnectError::Lost(_))), "{error:?}");
}

#[tokio::test]
async fn all_requests_share_one_connection() {
    let socket = Socket::new();
    let (client, mut d) = socket.client().await;
    let path = path();
    let options = CreateOptions { ring_buffer_size: Some(4096), ..CreateOptions::default() };
    let create = Request::Create(path.clone(), options.clone());
    answered(client.create(&path, &options), &mut d, create, &[Reply::Done]).await.unwrap();
    answered(client.close(&path), &mut d, Request::Close(path.clone()), &[Reply::Done])
        .await
        .unwrap();
    answered(client.remove(&path), &mut d, Request::Remove(path.clone()), &[Reply::Done])
        .await
        .unwrap();

    let replies = [Reply::Summary(summary()), Reply::Summary(summary()), Reply::Done];
    let list =
        answered(client.list("/streamfs"), &mut d, Request::List("/streamfs".into()), &replies)
            .await;
    assert_eq!(list.unwrap(), [summary(), summary()]);

    let text = Bytes::from_static(b"read me");
    let replies = [Reply::Document(text.clone())];
    let document =
        answered(client.document(&path), &mut d, Request::Document(path.clone()), &replies).await;
    assert_eq!(document.unwrap(), text);

    let daemon = answered(client.info(), &mut d, Request::Info, &[Reply::Daemon(info())]).await;
    assert_eq!(daemon.unwrap(), info());
}

#[tokio::test]
async fn the_stats_of_a_stream_include_its_writers_and_readers() {
    let socket = Socket::new();
    let (client, mut daemon) = socket.client().await;
    let writer = WriterStat {
        peer: Peer::default(),
        since: UNIX_EPOCH,
        bytes: 9,
        waiting: true,
        leased: false,
    };
    let replies = [
        Reply::Stat(super::daemon::stat()),
        Reply::WriterStat(writer.clone()),
        Reply::ReaderStat(super::daemon::reader_stat(1)),
        Reply::ReaderStat(super::daemon::reader_stat(2)),
        Reply::Done,
    ];
    let stat =
        answered(client.stat(&path()), &mut daemon, Request::Stat(path()), &replies).await.unwrap();
    assert_eq!((stat.path.as_str(), stat.head), ("/streamfs/cam", 3));
    assert_eq!(stat.writers, [writer]);
    assert_eq!(stat.readers, [super::daemon::reader_stat(1), super::daemon::reader_stat(2)]);
}

#[tokio::test]
async fn stats_without_end_are_an_error() {
    let hop = Reply::HopStat(HopStat {
        mount: "/edge".to_owned(),
        owner: String::new(),
        round_trip: None,
        failure: None,
        reconnects: 0,
        lost_bytes: 0,
        link: None,
    });
    let reader = Reply::ReaderStat(super::daemon::reader_stat(1));
    for (reply, most) in [(hop, MAX_HOPS), (reader, 10)] {
        for (count, is_accepted) in [(most, true), (most + 1, false)] {
            let socket = Socket::new();
            let (client, mut daemon) = socket.client().await;
            let mut replies = vec![Reply::Stat(super::daemon::stat())];
            replies.resize(count + 1, reply.clone());
            replies.push(Reply::Done);
            let asked = client.stat_with(path(), 10);
            let stat = answered(asked, &mut daemon, Request::Stat(path()), &replies).await;
            assert_eq!(stat.is_ok(), is_accepted, "{count} {reply:?}");
        }
    }
}

#[tokio::test]
async fn the_connection_is_still_usable_after_an_error_reply() {
    let socket = Socket::new();
    let (client, mut daemon) = socket.client().await;
    let missing =
        [Reply::Error { code: ErrorCode::NoSuchStream, message: "no /streamfs/cam".into() }];
    let error = answered(client.stat(&path()), &mut daemon, Request::Stat(path()), &missing)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        (Some(ErrorCode::NoSuchStream), "no /streamfs/cam".into())
    );
    answered(client.info(), &mut daemon, Request::Info, &[Reply::Daemon(info())]).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_request_leaves_no_reply_for_the_next_request_to_misread() {
    let socket = Socket::new();
    let (client, mut first) = socket.client().await;
    let half = async {
        assert_eq!(first.request().await, Some(Request::List("/".into())));
        first.send(&Reply::Summary(summary())).await;
    };
    tokio::select! {
        _ = client.list("/") => panic!("an incomplete list must not be returned"),
        () = half => (),
    }
    let (info, ()) = tokio::join!(client.info(), async {
        let mut second = socket.accept().await;
        second.welcome().await;
        assert_eq!(second.request().await, Some(Request::Info));
        second.send(&Reply::Daemon(info())).await;
    });
    assert_eq!(info.unwrap().pid, 7);
    assert_eq!(first.request().await, None, "the first connection was given up");
}

#[tokio::test(start_paused = true)]
async fn a_client_survives_the_restart_of_its_daemon() {
    let socket = Socket::new();
    let (client, mut first) = socket.client().await;
    first.send(&Reply::Error { code: ErrorCode::ShuttingDown, message: String::new() }).await;
    drop(first);
    // The runtime may need a turn to deliver the socket's readiness to a task.
    tokio::task::yield_now().await;
    let restarted = async {
        let mut second = socket.accept().await;
        second.welcome().await;
        assert_eq!(second.request().await, Some(Request::Info));
        second.send(&Reply::Daemon(info())).await;
        second
    };
    let (info, _second) = promptly(async { tokio::join!(client.info(), restarted) }).await;
    assert_eq!(info.unwrap().pid, 7);
}

#[tokio::test]
async fn a_daemon_that_goes_away_during_a_reply_is_reported_as_lost() {
    let socket = Socket::new();
    let (client, mut daemon) = socket.client().await;
    let (error, ()) = tokio::join!(client.list("/"), async {
        daemon.request().await;
        daemon.send(&Reply::Summary(summary())).await;
        drop(daemon);
    });
    assert!(matches!(error, Err(RequestError::Lost(_))), "{error:?}");
}

#[tokio::test]
async fn writers_and_readers_have_connections_of_their_own() {
    let socket = Socket::new();
    let (client, mut first) = socket.client().await;
    let options = WriteOptions::default();
    let open = Request::OpenWriter(path(), options);
    let writer = answered(
        client.writer(&path(), options),
        &mut first,
        open,
        &[Reply::Writing { max_chunk: 9 }],
    )
    .await;
    assert_eq!(writer.unwrap().max_chunk(), 9);

    let path = path();
    let (reader, ()) = tokio::join!(client.reader(&path, ReadOptions::default()), async {
        let mut second = socket.accept().await;
        second.welcome().await;
        second.request().await;
        second.send(&Reply::Error { code: ErrorCode::NoSuchStream, message: "no".into() }).await;
    });
    assert_eq!(reader.unwrap_err().code(), Some(ErrorCode::NoSuchStream));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_daemon_fails_and_reports_the_reason() {
    let socket = Socket::new();
    let (client, daemon) = socket.client().await;
    drop((socket, daemon));
    tokio::task::yield_now().await;
    let error = promptly(client.info()).await.unwrap_err();
    assert!(matches!(error, RequestError::Connect(ConnectError::NoDaemon { .. })), "{error:?}");
}
