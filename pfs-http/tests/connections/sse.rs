//! Server-sent events on an idle connection, and the requests that follow on the same connection.

use std::time::Duration;

use pfs_stream::Stream;
use tokio::time::{Instant, sleep};

use super::{Client, S, Served};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Reconnects as a client whose stream is gone.
async fn waiting(served: &Served) -> Client {
    let mut client = served.connect();
    let headers = [("accept", "text/event-stream"), ("last-event-id", "6418f2a0c3d51-2a:3")];
    client.request("GET", S, &headers, None).await;
    client.head().await.unwrap().has(200);
    let told = client.piece().await.unwrap();
    assert_eq!(text(told), "event: removed\ndata: {\"identity\":\"6418f2a0c3d51-2a\"}\n\n");
    client
}

fn text(piece: Vec<u8>) -> String {
    String::from_utf8(piece).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_alive_by_comments() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect();
    client.request("GET", S, &[("accept", "text/event-stream")], None).await;
    client.head().await.unwrap().has(200);
    assert_eq!(text(client.piece().await.unwrap()), format!("id: {}:0\n\n", stream.identity()));
    let begun = Instant::now();
    for times in 1..=3 {
        assert_eq!(client.piece().await.unwrap(), b":\n\n");
        assert_eq!(begun.elapsed(), times * KEEP_ALIVE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_next_stream_is_kept_alive_and_gets_it_from_its_first_byte() {
    let served = Served::new();
    let mut client = waiting(&served).await;
    let begun = Instant::now();
    for times in 1..=3 {
        assert_eq!(client.piece().await.unwrap(), b":\n\n");
        assert_eq!(begun.elapsed(), times * KEEP_ALIVE);
    }
    let stream = served.create(4096);
    assert_eq!(stream.readers(), 1, "the reader is attached before the first append");
    stream.writer().unwrap().try_append(b"fresh").unwrap();
    let id = stream.identity();
    let (start, event) = (format!("id: {id}:0\n\n"), format!("id: {id}:5\ndata: fresh\n\n"));
    let mut told = text(client.piece().await.unwrap());
    while told.len() < start.len() + event.len() {
        told.push_str(&text(client.piece().await.unwrap()));
    }
    assert_eq!(told, start + &event);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_next_stream_is_told_of_a_shutdown() {
    let served = Served::new();
    let mut client = waiting(&served).await;
    served.daemon.shutdown().cancel();
    let told = text(client.piece().await.unwrap());
    assert!(told.starts_with("event: failure\ndata: {\"code\":\"shutting_down\""), "{told}");
    assert_eq!(client.piece().await, None, "the client must not take this for the end");
}

/// Longer than any time limit.
const LONG: Duration = Duration::from_secs(3600);

const EVENTS: &[(&str, &str)] = &[("accept", "text/event-stream")];

/// Reads the beginning of an empty stream, until the reader waits.
async fn begins(client: &mut Client, stream: &Stream) {
    client.head().await.unwrap().has(200);
    assert_eq!(text(client.piece().await.unwrap()), format!("id: {}:0\n\n", stream.identity()));
    assert_eq!(client.piece().await.unwrap(), b":\n\n");
}

/// Appends, closes the stream, and reads all events.
async fn ends(client: &mut Client, stream: &Stream) {
    let id = stream.identity();
    let mut writer = stream.writer().unwrap();
    writer.try_append(b"fresh").unwrap();
    assert_eq!(text(client.piece().await.unwrap()), format!("id: {id}:5\ndata: fresh\n\n"));
    drop(writer);
    stream.close();
    let told = text(client.piece().await.unwrap());
    assert!(told.starts_with("event: end\n"), "{told}");
    assert_eq!(client.piece().await.unwrap(), b"", "the end of the body");
}

#[tokio::test(start_paused = true)]
async fn a_connection_answers_the_next_request_when_a_stream_has_ended() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect();
    client.request("GET", S, EVENTS, None).await;
    begins(&mut client, &stream).await;
    ends(&mut client, &stream).await;
    client.request("GET", "/healthz", &[], None).await;
    client.response().await.has(200);
    client.request("GET", S, &[], None).await;
    assert_eq!(client.response().await.has(200).body, b"fresh");
}

#[tokio::test(start_paused = true)]
async fn a_request_pipelined_behind_one_for_events_is_answered_after_the_events() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect();
    let request = |path, accept| {
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\n\r\n", super::address())
    };
    let both = request(S, "text/event-stream") + &request("/healthz", "*/*");
    client.send(both.as_bytes()).await;
    begins(&mut client, &stream).await;
    client.request("GET", S, &[], None).await;
    ends(&mut client, &stream).await;
    client.response().await.has(200);
    assert_eq!(client.response().await.has(200).body, b"fresh");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asked_to_close_the_connection_gets_the_close_after_the_events() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect();
    client.request("GET", S, &[EVENTS[0], ("connection", "close")], None).await;
    begins(&mut client, &stream).await;
    ends(&mut client, &stream).await;
    let begun = Instant::now();
    assert_eq!(client.until_hung_up().await, b"");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the connection was kept for another request"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_events_is_told_of_a_removal_or_a_shutdown() {
    for is_shutdown in [false, true] {
        let served = Served::new();
        let stream = served.create(4096);
        let mut client = served.connect();
        client.request("GET", S, EVENTS, None).await;
        begins(&mut client, &stream).await;
        if is_shutdown {
            served.daemon.shutdown().cancel();
        } else {
            served.daemon.registry().remove_stream(&stream);
        }
        let told = text(client.piece().await.unwrap());
        let code = if is_shutdown { "shutting_down" } else { "removed" };
        assert!(
            told.starts_with(&format!("event: failure\ndata: {{\"code\":\"{code}\"")),
            "{told}"
        );
        assert_eq!(client.piece().await, None, "the client must not take this for the end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_it_waits_for_events_is_noticed() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect();
    client.request("GET", S, EVENTS, None).await;
    begins(&mut client, &stream).await;
    client.transport().end_sending().await;
    sleep(LONG).await;
    assert_eq!(stream.readers(), 1, "the client may still read");
    drop(client);
    sleep(LONG).await;
    assert_eq!(stream.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_events_gets_all_of_them_when_it_does() {
    let served = Served::new();
    let stream = served.create(64 * 1024);
    let mut client = served.connect_over(100);
    client.request("GET", S, EVENTS, None).await;
    begins(&mut client, &stream).await;
    let mut writer = stream.writer().unwrap();
    let chunks: Vec<String> = (0..100).map(|number| number.to_string().repeat(70)).collect();
    for chunk in &chunks {
        writer.try_append(chunk.as_bytes()).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    drop(writer);
    stream.close();
    let mut told = String::new();
    loop {
        let piece = text(client.piece().await.unwrap());
        if piece.is_empty() {
            break;
        }
        told.push_str(&piece);
    }
    let data: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data[..chunks.len()], chunks);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_not_read_its_events_is_told_of_a_shutdown() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut client = served.connect_over(100);
    client.request("GET", S, EVENTS, None).await;
    sleep(LONG).await;
    served.daemon.shutdown().cancel();
    sleep(Duration::from_millis(1)).await;
    client.head().await.unwrap().has(200);
    assert_eq!(text(client.piece().await.unwrap()), format!("id: {}:0\n\n", stream.identity()));
    let told = text(client.piece().await.unwrap());
    assert!(told.starts_with("event: failure\ndata: {\"code\":\"shutting_down\""), "{told}");
    assert_eq!(client.piece().await, None, "the client must not take this for the end");
}

#[tokio::test(start_paused = true)]
async fn a_raw_response_with_the_media_type_of_events_keeps_its_trailers() {
    let served = Served::new();
    let mut client = served.connect();
    client
        .request("PUT", &format!("{S}?create"), &[("content-type", "text/event-stream")], Some(b""))
        .await;
    client.response().await.is_success();
    let stream = served.daemon.registry().get(S).unwrap();
    let mut writer = stream.writer().unwrap();
    writer.try_append(b"history").unwrap();
    let mut client = served.connect();
    client.request("GET", S, &[("te", "trailers"), ("connection", "keep-alive")], None).await;
    let head = client.head().await.unwrap().has(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert!(head.header("trailer").is_some());
    assert_eq!(client.piece().await.unwrap(), b"history");
    sleep(LONG).await;
    drop(writer);
    stream.close();
    let mut near = Vec::new();
    let transport = client.transport();
    while !near.ends_with(b"\r\n\r\n") {
        assert!(tokio::io::AsyncReadExt::read_buf(transport, &mut near).await.unwrap() > 0);
    }
    let told = text(near);
    assert!(told.contains("pfs-end"), "{told}");
}
