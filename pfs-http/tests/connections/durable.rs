//! Durable Streams protocol: time limits and memory limits.

use std::time::Duration;

use pfs_http::settings::Limits;
use pfs_peer::http::Response;
use tokio::time::Instant;

use super::{S, Served};

const LONG_POLL_TIME: Duration = Duration::from_secs(30);

const TTL: Duration = Duration::from_secs(3600);

/// Sends one request on a connection of its own, and returns the whole response.
async fn ask(served: &Served, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = served.connect();
    client.request(method, path, headers, Some(b"")).await;
    client.response().await
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_expire_while_a_long_poll_waits_for_it() {
    let served = Served::with(Limits { long_poll_time: LONG_POLL_TIME, ..Limits::default() });
    let headers = [("content-type", "text/plain"), ("stream-ttl", "3600")];
    ask(&served, "PUT", "/v1/stream/s", &headers).await.has(201);
    let registry = served.daemon.registry();
    let stream = registry.get(S).unwrap();
    let begun = Instant::now();
    let mut poll = served.connect();
    poll.request("GET", "/v1/stream/s?offset=now&live=long-poll", &[], None).await;
    stream.readers_reach(1).await;
    // Expiry uses a clock that a test cannot pause. While a reader waits, the TTL does not run.
    assert_eq!(stream.expires_in(), Some(TTL), "a client waits for the stream");
    let waited = poll.response().await.has(204);
    assert_eq!(waited.header("stream-up-to-date"), Some("true"));
    assert_eq!(begun.elapsed(), LONG_POLL_TIME);
    let head = ask(&served, "HEAD", "/v1/stream/s", &[]).await.has(200);
    assert_eq!(head.header("stream-ttl"), Some("3600"));
    assert_eq!(registry.expire(TTL), [S], "no client uses the stream");
}

#[tokio::test(start_paused = true)]
async fn a_body_takes_memory_from_others_as_it_arrives_and_not_as_it_is_announced() {
    const ANNOUNCED: &str = "6000000";
    let served = Served::new();
    let media_type = ("content-type", "text/plain");
    ask(&served, "PUT", "/v1/stream/s", &[media_type]).await.has(201);
    let arriving = served.daemon.arriving();
    let mut clients = Vec::new();
    for _ in 0..2 * arriving.limit() / ANNOUNCED.parse::<u64>().unwrap() {
        let mut client = served.connect();
        client
            .request("POST", "/v1/stream/s", &[media_type, ("content-length", ANNOUNCED)], None)
            .await;
        client.send(b"x").await;
        clients.push(client);
    }
    let post = async || {
        let mut client = served.connect();
        client.request("POST", "/v1/stream/s", &[media_type], Some(b"hi")).await;
        client.response().await
    };
    post().await.has(204);
    assert_eq!(arriving.used(), clients.len() as u64);

    let others = arriving.reserve(arriving.limit() - arriving.used() - 1).unwrap();
    let refused = post().await.has(503);
    assert_eq!(
        (refused.refuses("limit").is_empty(), refused.header("retry-after")),
        (false, Some("1"))
    );
    drop(others);
    post().await.has(204);
    drop(clients);
    while arriving.used() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
