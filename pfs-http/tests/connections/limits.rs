//! Time limits, connection limits and memory limits of requests.

use std::time::Duration;

use pfs_host::refusals::Reason;
use pfs_http::settings::Limits;
use pfs_stream::StreamConfig;
use tokio::time::{Instant, sleep};

use super::{DAY, S, Served, WIDE};

const HEADER_TIME: Duration = Duration::from_secs(7);
const IDLE_TIME: Duration = Duration::from_secs(50);
const BODY_STALL_TIME: Duration = Duration::from_secs(20);

/// A server whose time limits all differ, so that a test sees which limit applied.
fn served() -> Served {
    Served::with(Limits {
        header_time: HEADER_TIME,
        idle_time: IDLE_TIME,
        body_stall_time: BODY_STALL_TIME,
        ..Limits::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_headers_too_slowly_is_told_and_dropped() {
    let served = served();
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..20).map(|_| served.connect()).collect();
    for client in &mut slow {
        client.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await;
    }
    // Like slow-loris clients, each client sends a byte now and then, for as long as the server
    // accepts it.
    let mut heard = slow.len();
    while heard > 0 {
        sleep(Duration::from_millis(700)).await;
        heard = 0;
        for client in &mut slow {
            heard += usize::from(client.offer(b"x").await);
        }
    }
    // The server lingers for a second, so that the clients can read the response.
    assert!(
        begun.elapsed() > HEADER_TIME && begun.elapsed() < HEADER_TIME + Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    for client in &mut slow {
        client.response().await.has(408).refuses("too_slow");
        assert!(client.until_hung_up().await.is_empty());
    }
    assert_eq!(served.refusals(Reason::TooSlow), 20);

    let begun = Instant::now();
    let mut partly = served.connect();
    partly.send(b"GET /heal").await;
    partly.response().await.has(408).refuses("too_slow");
    assert_eq!(begun.elapsed(), HEADER_TIME);
    let begun = Instant::now();
    let mut silent = served.connect();
    assert!(silent.until_hung_up().await.is_empty(), "a client that sent nothing gets no response");
    assert_eq!(begun.elapsed(), HEADER_TIME);
    assert_eq!(
        served.refusals(Reason::TooSlow),
        21,
        "a client that requested nothing does not count as refused"
    );
    let mut other = served.connect();
    other.request("GET", "/healthz", &[], None).await;
    other.response().await.has(200);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_closed_after_a_while() {
    let served = served();
    let mut client = served.connect();
    let almost = IDLE_TIME - Duration::from_secs(1);
    for pause in [Duration::ZERO, almost, almost] {
        sleep(pause).await;
        client.request("GET", "/healthz", &[], None).await;
        client.response().await.has(200);
    }
    let last = Instant::now();
    assert!(client.until_hung_up().await.is_empty());
    assert_eq!(last.elapsed(), IDLE_TIME);
}

#[tokio::test(start_paused = true)]
async fn an_http_2_client_without_requests_is_told_in_http_2() {
    let served = served();
    let near = served.connect_raw(WIDE);
    let (client, connection) =
        h2::client::Builder::new().handshake::<_, &[u8]>(near).await.unwrap();
    let begun = Instant::now();
    let told = connection.await;
    assert!(told.is_ok(), "{told:?}");
    assert_eq!(begun.elapsed(), HEADER_TIME);
    let Err(error) = client.ready().await else { panic!("the connection has ended") };
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_before_the_end_of_an_answer_gets_the_rest() {
    let served = served();
    let stream = served.create(WIDE as u64);
    let mut writer = stream.writer().unwrap();
    writer.try_append(&[b'a'; 40_000]).unwrap();
    drop(writer);
    stream.close();
    // hyper has accepted the whole response, and the pipe has room for a part of it.
    let mut client = served.connect_over(1000);
    client.request("GET", S, &[], None).await;
    let mut answer = client.head().await.unwrap().has(200);
    sleep(DAY).await;
    client.rest(&mut answer).await;
    assert!(answer.whole, "{} bytes came", answer.body.len());
    let last = Instant::now();
    assert!(client.until_hung_up().await.is_empty());
    assert_eq!(last.elapsed(), IDLE_TIME);

    // Over HTTP/2, the client has opened its window for a part of the response.
    let near = served.connect_raw(WIDE);
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1000)
        .handshake::<_, &[u8]>(near)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}{S}", super::address())).body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    sleep(DAY).await;
    let mut len = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        len += piece.len();
    }
    assert_eq!(len, 40_000);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_known_length_that_stalls_is_408() {
    let served = served();
    served.create(4096);
    for path in [S, "/v1/stream/s", "/api/v1/files?path=/streamfs/s"] {
        let mut client = served.connect();
        let headers = [("content-length", "10"), ("content-type", "application/octet-stream")];
        let method = if path.starts_with("/v1") { "POST" } else { "PUT" };
        client.request(method, path, &headers, None).await;
        client.send(b"half").await;
        let stalled = Instant::now();
        let answer = client.response().await.has(408);
        assert_eq!(stalled.elapsed(), BODY_STALL_TIME, "{path}");
        let message = String::from_utf8_lossy(&answer.body);
        assert!(
            message.contains("no part of the body arrived for 20 seconds"),
            "{path}: {message}"
        );
        assert!(client.until_hung_up().await.is_empty());
    }
    assert_eq!(served.refusals(Reason::TooSlow), 3);
    let mut slow = served.connect();
    slow.request("PUT", S, &[("content-length", "10")], None).await;
    for _ in 0..10 {
        sleep(BODY_STALL_TIME - Duration::from_secs(1)).await;
        slow.send(b"x").await;
    }
    slow.response().await.is_success();
}

/// Routes that gather a body before it is appended.
const GATHERED: [(&str, &str); 2] =
    [("POST", "/v1/stream/s"), ("PUT", "/api/v1/files?path=/streamfs/s")];

#[tokio::test(start_paused = true)]
async fn a_body_that_is_gathered_has_to_arrive_at_a_kibibyte_a_second() {
    let served = served();
    served.create(128 * 1024);
    let second = Duration::from_secs(1);
    for (method, path) in GATHERED {
        let headers = [("content-length", "60000"), ("content-type", "application/octet-stream")];
        let mut client = served.connect();
        client.request(method, path, &headers, None).await;
        let begun = Instant::now();
        // A byte every 19 seconds is no stall.
        client.send(b"x").await;
        sleep(BODY_STALL_TIME - second).await;
        client.send(b"x").await;
        let answer = client.response().await.has(408);
        let message = String::from_utf8_lossy(&answer.body);
        assert!(message.contains("less than 1024 bytes a second"), "{path}: {message}");
        assert_eq!(begun.elapsed(), BODY_STALL_TIME, "{path}");

        let mut client = served.connect();
        client.request(method, path, &headers, None).await;
        for _ in 0..60 {
            sleep(second).await;
            client.send(&[1; 1000]).await;
        }
        client.response().await.is_success();

        let mut client = served.connect();
        client.request(method, path, &headers, None).await;
        client.send(&[1; 5 * 1024]).await;
        let begun = Instant::now();
        sleep(BODY_STALL_TIME - second).await;
        client.send(b"x").await;
        let answer = client.response().await.has(408);
        let message = String::from_utf8_lossy(&answer.body);
        assert!(message.contains("less than 1024 bytes a second"), "{path}: {message}");
        assert_eq!(
            begun.elapsed(),
            BODY_STALL_TIME + 5 * second,
            "{path}: 5 KiB take 5 seconds more"
        );
    }
    assert_eq!(served.refusals(Reason::TooSlow), 4);
}

#[tokio::test(start_paused = true)]
async fn a_live_body_and_a_live_reader_may_be_silent_for_longer_than_anything_else() {
    let served = served();
    let stream = served.create(4096);
    let mut writer = served.connect();
    writer.begin("PUT", S, &[]).await;
    writer.chunk(b"before").await;
    let mut reader = served.connect();
    reader.request("GET", S, &[], None).await;
    let mut answer = reader.head().await.unwrap().has(200);
    assert_eq!(reader.piece().await.unwrap(), b"before");
    sleep(DAY).await;
    writer.chunk(b"after").await;
    writer.end_chunks().await;
    writer.response().await.is_success();
    assert_eq!(reader.piece().await.unwrap(), b"after");
    stream.close();
    reader.rest(&mut answer).await;
    assert!(answer.whole);
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_on_one_http_2_connection_count_as_a_connection_each() {
    let served = Served::with(Limits { max_connections_per_address: 2, ..Limits::default() });
    let stream = served.create(4096);
    let (client, connection) = h2::client::handshake(served.connect_raw(WIDE)).await.unwrap();
    tokio::spawn(connection);
    let read = async || {
        let request =
            http::Request::get(format!("http://{}{S}", super::address())).body(()).unwrap();
        let (answer, _) =
            client.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let (head, body) = answer.await.unwrap().into_parts();
        (head.status.as_u16(), body)
    };
    let ((one, first), (two, _second)) = (read().await, read().await);
    assert_eq!((one, two), (200, 200));
    assert_eq!((read().await.0, read().await.0), (429, 429));
    assert_eq!(served.refusals(Reason::ConnectionsPerAddress), 2);
    assert_eq!(served.daemon.info().connections, 2);
    drop(first);
    while stream.readers() > 1 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(read().await.0, 200);
}

/// More streams than one page of a listing has, and enough for an AGFS listing that is charged.
const STREAMS: usize = 1000;

#[tokio::test(start_paused = true)]
async fn a_response_that_is_held_whole_is_charged_and_refused_if_there_is_no_memory() {
    const WHOLE: &str = "/api/v1/directories?path=/streamfs";
    let served = Served::new();
    let registry = served.daemon.registry();
    let small =
        StreamConfig { ring_buffer_size: 1, channel_buffer_size: 1, ..StreamConfig::default() };
    for number in 0..STREAMS {
        registry.create(&format!("/streamfs/{number}"), small.clone()).unwrap();
    }
    let leaving = served.daemon.leaving();
    let mut stalled = served.connect_over(1000);
    stalled.request("GET", WHOLE, &[], None).await;
    stalled.head().await.unwrap().has(200);
    assert!(leaving.used() > 64 * 1024, "{} bytes", leaving.used());
    drop(stalled);
    while leaving.used() > 0 {
        sleep(Duration::from_millis(1)).await;
    }

    let all = leaving.reserve(leaving.limit()).unwrap();
    let ask = async |path: &str| {
        let mut client = served.connect();
        client.request("GET", path, &[], None).await;
        client.response().await
    };
    let refused = ask(WHOLE).await.has(503);
    assert!(String::from_utf8_lossy(&refused.body).contains("limits.max_memory"), "{refused:?}");
    assert_eq!(served.refusals(Reason::MessageMemory), 1);
    // A response that is sent page by page takes nothing from the budget.
    let listed: serde_json::Value =
        serde_json::from_slice(&ask("/streamfs/").await.has(200).body).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), STREAMS);
    drop(all);
    ask(WHOLE).await.has(200);
}

#[tokio::test(start_paused = true)]
async fn catch_up_pages_need_no_memory_that_others_can_use_up() {
    let served = Served::new();
    let leaving = served.daemon.leaving();
    let _all = leaving.reserve(leaving.limit()).unwrap();
    for media_type in ["text/plain", "application/octet-stream", "application/json"] {
        let path = format!("/v1/stream/{}", media_type.replace('/', "-"));
        let message = format!("\"{}\"", "x".repeat(998));
        let messages = if media_type.ends_with("json") {
            format!("[{}]", vec![&*message; 300].join(","))
        } else {
            message.repeat(300)
        };
        let headers = [("content-type", media_type)];
        let mut client = served.connect_over(1024 * 1024);
        client.request("PUT", &path, &headers, Some(messages.as_bytes())).await;
        client.response().await.has(201);
        for live in ["", "&live=long-poll"] {
            client.request("GET", &format!("{path}?offset=-1{live}"), &[], None).await;
            let page = client.response().await.has(200);
            let len = page.body.len();
            assert!((32 * 1024..=96 * 1024).contains(&len), "{media_type}{live}: {len} bytes");
        }
    }
}
