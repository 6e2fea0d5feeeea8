//! Readers over HTTP/2 that open no window or do not read their socket, and their effect on
//! other readers.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    Reason, RecvStream,
    client::{Builder, Connection, SendRequest},
};
use harness::{Daemon, Signal, deadline, digest, eventually, noise, own};
use tokio::{net::TcpStream, time::timeout};

const S: &str = "/streamfs/s";

/// Number of stalled readers.
const STALLED: usize = 20;

/// Connects a client whose streams share one connection. Returns the client and the future that
/// drives the connection.
async fn connect(
    daemon: &Daemon,
    window: u32,
) -> (SendRequest<Bytes>, Pin<Box<Connection<TcpStream>>>) {
    let stream = TcpStream::connect(daemon.http_address()).await.unwrap();
    let mut builder = Builder::new();
    // The connection window is much larger than the stream windows, so one stalled stream cannot
    // block the others.
    builder.initial_window_size(window).initial_connection_window_size(1024 * 1024 * 1024);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    (client, Box::pin(connection))
}

/// Starts a reader of the stream and waits for the response head.
async fn reader(daemon: &Daemon, client: &SendRequest<Bytes>, query: &str) -> RecvStream {
    let mut client = client.clone().ready().await.unwrap();
    let request = http::Request::get(daemon.url(&format!("{S}{query}"))).body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Reads the whole body. Returns false beside it if the body broke.
async fn all(mut body: RecvStream) -> (Vec<u8>, bool) {
    let mut got = Vec::new();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return (got, false) };
        body.flow_control().release_capacity(piece.len()).unwrap();
        got.extend_from_slice(&piece);
    }
    (got, true)
}

/// Starts a daemon with a ring buffer larger than the permitted cost of stalled readers.
fn daemon() -> Daemon {
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"32MB\"\nchannel_buffer_size = \"32MB\"\n",
    );
    daemon.create(S);
    daemon
}

/// Writes twice the size of the ring buffer and asserts that each stalled reader costs no more than
/// a bounded buffer.
async fn stalled_readers_are_cheap(daemon: Daemon, data: Vec<u8>) -> Daemon {
    let writing = move || {
        let (first, second) = data.split_at(data.len() / 2);
        daemon.pfs(["write", "--stream", S]).stdin(first).run().exits(0);
        // Without the ring buffers, which come and go with leases.
        let before = own(daemon.pid());
        daemon.pfs(["write", "--stream", "--close", S]).stdin(second).run().exits(0);
        let each = own(daemon.pid()).saturating_sub(before) / STALLED as u64;
        assert!(each < 512 * 1024, "{each} bytes for each reader that stalls");
        daemon
    };
    tokio::task::spawn_blocking(writing).await.unwrap()
}

#[tokio::test]
async fn readers_that_give_no_window_cost_a_bounded_buffer_and_hold_up_nobody_on_their_connection()
{
    let daemon = daemon();
    let (client, connection) = connect(&daemon, 64 * 1024).await;
    tokio::spawn(connection);
    let stalled = join_all((0..STALLED).map(|_| reader(&daemon, &client, ""))).await;
    let reading = tokio::spawn(all(reader(&daemon, &client, "?slow=block").await));

    let data = noise(1, 80 * 1024 * 1024);
    let daemon = stalled_readers_are_cheap(daemon, data.clone()).await;
    let (got, ended) = reading.await.unwrap();
    assert!(ended && digest(&got) == digest(&data), "{} bytes, ended: {ended}", got.len());
    // The stalled readers lost bytes, and their bodies break when they read on.
    for (got, ended) in join_all(stalled.into_iter().map(all)).await {
        assert!(
            !ended && data.starts_with(&got) && !got.is_empty(),
            "{} bytes, ended: {ended}",
            got.len()
        );
    }
    daemon.has_readers(S, 0);
}

#[tokio::test]
async fn a_connection_from_which_nothing_is_read_costs_a_bounded_buffer_for_each_reader_and_holds_up_no_other()
 {
    let daemon = daemon();
    let (client, mut connection) = connect(&daemon, 1024 * 1024 * 1024).await;
    // The windows are practically unlimited, and nobody reads the socket once the heads
    // have arrived.
    let stalled = tokio::select! {
        stalled = join_all((0..STALLED).map(|_| reader(&daemon, &client, ""))) => stalled,
        ended = &mut connection => panic!("{ended:?}"),
    };

    let (other, driver) = connect(&daemon, 1024 * 1024).await;
    tokio::spawn(driver);
    let reading = tokio::spawn(all(reader(&daemon, &other, "?slow=block").await));
    let data = noise(2, 80 * 1024 * 1024);
    let daemon = stalled_readers_are_cheap(daemon, data.clone()).await;
    let (got, ended) = reading.await.unwrap();
    assert!(ended && digest(&got) == digest(&data), "{} bytes, ended: {ended}", got.len());
    drop((stalled, connection));
    daemon.has_readers(S, 0);
}

/// Waits for a response, which proves that the daemon has read everything sent before.
async fn is_heard(daemon: &Daemon, client: &SendRequest<Bytes>) {
    let mut client = client.clone().ready().await.unwrap();
    let request = http::Request::get(daemon.url("/healthz")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(timeout(deadline(), answer).await.expect("an answer").unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_resets_its_requests_cannot_exceed_the_limit_on_concurrent_appends() {
    const AT_A_TIME: usize = 128;
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 4096, 4096);
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    daemon.append(S, vec![7; 4000]);
    let (client, connection) = connect(&daemon, 1024 * 1024).await;
    tokio::spawn(connection);
    for _ in 0..4 {
        let mut bodies = Vec::new();
        for _ in 0..AT_A_TIME / 2 {
            let mut client = client.clone().ready().await.unwrap();
            let request = http::Request::put(daemon.url(S)).body(()).unwrap();
            let (_, mut body) = client.send_request(request, false).unwrap();
            body.send_data(vec![7; 1000].into(), false).unwrap();
            bodies.push(body);
        }
        is_heard(&daemon, &client).await;
        bodies.iter_mut().for_each(|body| body.send_reset(Reason::CANCEL));
        is_heard(&daemon, &client).await;
    }
    let writers = daemon.stat(S).unwrap()["writers"].as_array().unwrap().len();
    assert!(writers <= AT_A_TIME, "{writers} writers");
    reader.signal(Signal::KILL);
    eventually("all of them are done", || daemon.stat(S).unwrap()["writers"].get(0).is_none());
}

#[tokio::test]
async fn a_silent_upload_is_answered_when_its_stream_is_closed_or_removed() {
    for (end, status) in [("close", 409), ("rm", 410)] {
        let daemon = Daemon::with_http();
        let (client, connection) = connect(&daemon, 1024 * 1024).await;
        tokio::spawn(connection);
        let request = http::Request::put(daemon.url(S)).body(()).unwrap();
        let (response, mut body) =
            client.ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data("abc".into(), false).unwrap();
        let ending = tokio::task::spawn_blocking(move || {
            eventually("it is appended", || daemon.head(S) == 3);
            daemon.pfs([end, S]).run().exits(0);
            daemon
        });
        let response = timeout(deadline(), response).await.expect("an answer").unwrap();
        assert_eq!(response.status(), status);
        ending.await.unwrap();
    }
}
