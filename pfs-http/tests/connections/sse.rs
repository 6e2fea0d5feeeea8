//! Server-sent events while nothing happens.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, S, Served};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Comes back for a stream that is gone.
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
async fn a_connection_on_which_nothing_happens_is_kept_alive_by_a_comment() {
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
    assert_eq!(stream.readers(), 1, "it is there before anything can be appended");
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
async fn a_client_that_waits_for_the_next_stream_is_told_that_the_daemon_ends() {
    let served = Served::new();
    let mut client = waiting(&served).await;
    served.daemon.shutdown().cancel();
    let told = text(client.piece().await.unwrap());
    assert!(told.starts_with("event: failure\ndata: {\"code\":\"going_away\""), "{told}");
    assert_eq!(client.piece().await, None, "it must not take this for the end");
}
