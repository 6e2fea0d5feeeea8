//! Idempotent producers, which may repeat their requests.

use harness::{Daemon, HttpResponse};

use super::TEXT;

fn produce(daemon: &Daemon, id: &str, epoch: u64, seq: u64, body: &[u8]) -> HttpResponse {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let headers = [TEXT, ("producer-id", id), ("producer-epoch", &epoch), ("producer-seq", &seq)];
    daemon.ask("POST", "/v1/stream/s", headers, body)
}

#[test]
fn only_the_last_256_producers_are_remembered_and_a_forgotten_one_gets_an_error() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    produce(&daemon, "first", 0, 0, b"a").has(200);
    for number in 0..256 {
        produce(&daemon, &format!("p{number}"), 0, 0, b"x").has(200);
    }
    produce(&daemon, "p255", 0, 0, b"again").has(204);
    let forgotten = produce(&daemon, "first", 0, 1, b"b").has(409);
    assert_eq!(forgotten.header("producer-expected-seq"), Some("0"));
    assert_eq!(daemon.head("/streamfs/s"), 257);
    produce(&daemon, "first", 1, 0, b"b").has(200);
    // The length of a producer's name is limited too.
    produce(&daemon, &"n".repeat(257), 0, 0, b"x").has(400);
}

#[test]
fn a_repeated_request_is_a_success_even_when_the_stream_is_closed() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    produce(&daemon, "p", 0, 0, b"a").has(200);
    daemon.close("/streamfs/s");
    let again = produce(&daemon, "p", 0, 0, b"a").has(204);
    assert_eq!(again.header("stream-closed"), Some("true"));
    produce(&daemon, "p", 0, 1, b"b").has(409).refuses("closed");
    assert_eq!(daemon.get("/v1/stream/s").text(), "a");
}

#[test]
fn the_state_of_producers_is_removed_with_the_stream() {
    let daemon = Daemon::with_http();
    for _ in 0..2 {
        daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
        produce(&daemon, "p", 7, 0, b"a").has(200);
        daemon.ask("POST", "/v1/stream/s", [TEXT, ("stream-seq", "5")], b"b").has(204);
        daemon.ask("DELETE", "/v1/stream/s", [], b"").has(204);
    }
}
