//! Appends are atomic: the whole body is appended, or nothing.

use harness::{Daemon, digest, eventually, noise};

use super::{JSON, TEXT, small};

#[test]
fn a_body_that_is_too_large_or_breaks_off_leaves_nothing_behind() {
    let daemon = small();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    daemon
        .ask("POST", "/v1/stream/s", [TEXT], &vec![0; (64 * 1024) + 1])
        .has(413)
        .refuses("too_large");
    daemon.ask("PUT", "/v1/stream/t", [TEXT], &vec![0; 1024 * 1024]).has(413).refuses("too_large");
    let mut chunked = daemon.http();
    chunked.begin("POST", "/v1/stream/s", &[TEXT]);
    for _ in 0..20 {
        chunked.chunk(&[1; 8 * 1024]);
    }
    chunked.end_chunks();
    chunked.response().has(413).refuses("too_large");

    let mut broken = daemon.http();
    broken.begin("POST", "/v1/stream/s", &[TEXT]);
    broken.chunk(b"half of it");
    broken.end_sending();
    broken.until_hung_up();
    assert_eq!(daemon.streams(), ["/streamfs/s"]);
    assert_eq!(daemon.head("/streamfs/s"), 0);
}

#[test]
fn a_batch_of_messages_is_appended_as_a_whole_or_not_at_all() {
    let daemon = small();
    daemon.ask("PUT", "/v1/stream/s", [JSON], b"[]").has(201);
    daemon.ask("POST", "/v1/stream/s", [JSON], b"[1, 2, {]").has(400).refuses("bad_request");
    // Each message takes an entry of the ring buffer's index, which has a thousand.
    let many = format!("[{}0]", "0,".repeat(2000));
    daemon.ask("POST", "/v1/stream/s", [JSON], many.as_bytes()).has(413).refuses("too_large");
    daemon.ask("PUT", "/v1/stream/t", [JSON], many.as_bytes()).has(413).refuses("too_large");
    assert_eq!(daemon.streams(), ["/streamfs/s"]);
    assert_eq!(daemon.head("/streamfs/s"), 0);
}

#[test]
fn request_bodies_share_a_bounded_memory() {
    let daemon = Daemon::with_http_config("[limits]\nmax_memory = \"16MB\"\n");
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let length = (1_500_000).to_string();
    let mut first = daemon.http();
    first.request("POST", "/v1/stream/s", &[TEXT, ("content-length", &length)], None);
    first.send(&[1; 1_400_000]);
    eventually("what was sent of it is in memory", || {
        daemon
            .get("/metrics")
            .text()
            .contains("pfs_message_memory_bytes{direction=\"arriving\"} 1400000\n")
    });
    // Memory is too short for a second body.
    let second = || daemon.ask("POST", "/v1/stream/s", [TEXT], &[2; 1_500_000]);
    let refused = second().has(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.refuses("limit");
    daemon.ask("POST", "/v1/stream/s", [TEXT], b"a small one").has(204);
    first.send(&[1; 100_000]);
    first.response().has(204);
    second().has(204);
}

#[test]
fn an_append_that_waits_for_a_block_reader_goes_on_when_the_reader_reads() {
    let daemon = small();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let mut reader = daemon.http();
    reader.request("GET", "/streamfs/s?slow=block", &[], None);
    let mut response = reader.head().expect("an answer").has(200);
    let sent = noise(6, 32 * 1024 * 1024);
    let mut writer = daemon.http();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut done = 0;
            for part in sent.chunks(60_000) {
                writer.request("POST", "/v1/stream/s", &[TEXT], Some(part));
                writer.response().has(204);
                done += part.len() as u64;
                assert!(daemon.head("/streamfs/s") >= done, "it is answered before it is done");
            }
            writer.request("POST", "/v1/stream/s", &[("stream-closed", "true")], Some(b""));
            writer.response().has(204);
        });
        // Far more than the sockets hold.
        eventually("an append waits", || {
            daemon.stat("/streamfs/s").unwrap()["writers"][0]["waiting"] == true
        });
        assert!(!writing.is_finished());
        reader.rest(&mut response);
        writing.join().unwrap();
    });
    assert!(
        response.whole && digest(&response.body) == digest(&sent),
        "{} bytes",
        response.body.len()
    );
}

#[test]
fn forks_are_refused_and_create_nothing() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"x").has(201);
    for name in ["Stream-Forked-From", "Stream-Fork-Offset", "stream-fork-sub-offset"] {
        let refused =
            daemon.ask("PUT", "/v1/stream/fork", [TEXT, (name, "/v1/stream/s")], b"").has(501);
        assert!(refused.refuses("no_forks").contains("fork"));
        assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(daemon.streams(), ["/streamfs/s"]);
}
