//! Streams that were closed as failed: every kind of reader gets all their bytes and never a
//! clean end.

use harness::{Daemon, Transport, eventually, noise};
use serde_json::json;

const S: &str = "/streamfs/s";

harness::per_transport! {
    every_reader_of_a_stream_that_was_closed_as_failed_ends_with_8,
    a_stream_that_was_closed_cannot_be_closed_as_failed,
}

fn every_reader_of_a_stream_that_was_closed_as_failed_ends_with_8(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let live = daemon.reader(S, []);
    let gone = daemon.reader(S, ["--until", "writers-gone", "--new"]);
    daemon.pfs(["close", "--failed", S]).run().exits(0).quietly();
    let late = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("the writer ends", || !writer.runs());
    writer.finish().exits(9).says("closed");
    for (reader, text) in [(live, "so far"), (gone, ""), (late, "so far")] {
        assert_eq!(reader.finish().exits(8).says("was closed as failed").text(), text);
    }
    // A reader that asks for the current contents does not ask for an end.
    let now = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0);
    assert_eq!(now.text(), "so far");
    assert_eq!(daemon.stat(S).unwrap()["state"], "failed");
    // Closing the stream again, in either way, does not change its state.
    daemon.pfs(["close", S]).run().exits(0);
    daemon.pfs(["close", "--failed", S]).run().exits(0);
    daemon.pfs(["cat", "--stream", S]).run().exits(8);
}

fn a_stream_that_was_closed_cannot_be_closed_as_failed(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "all");
    daemon.pfs(["close", S]).run().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all");
    daemon.pfs(["close", "--failed", S]).run().exits(9).says("already closed, and not as failed");
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all");
    daemon.pfs(["close", "--failed", "/streamfs/none"]).run().exits(3);
}

#[test]
fn a_plain_response_breaks_and_has_no_length_that_would_make_it_look_complete() {
    let daemon = Daemon::with_http();
    daemon.append(S, "so far");
    let mut live = daemon.http();
    live.request("GET", S, &[], None);
    let head = live.head().unwrap();
    assert_eq!((head.status, live.pieces(6)), (200, b"so far".to_vec()));
    daemon.pfs(["close", "--failed", S]).run().exits(0);
    assert_eq!(live.piece(), None, "the connection breaks");
    for late in [daemon.get(S), daemon.ask("GET", S, [("range", "bytes=0-")], b"")] {
        let late = late.has(200);
        assert_eq!(
            (late.text(), late.whole, late.header("pfs-state")),
            ("so far", false, Some("failed"))
        );
        assert_eq!((late.header("content-length"), late.header("accept-ranges")), (None, None));
    }
    // A range response stays partial and does not claim that six bytes are the whole stream.
    let part = daemon.ask("GET", S, [("range", "bytes=3-")], b"").has(206);
    assert_eq!((part.text(), part.header("content-range")), ("far", Some("bytes 3-5/*")));
    // wget and Chromium send this request by themselves when a body breaks. A 416 would tell them
    // that their download is complete.
    daemon.ask("GET", S, [("range", "bytes=6-")], b"").has(409).refuses("failed");
    assert_eq!(daemon.ask("HEAD", S, [], b"").has(200).header("pfs-state"), Some("failed"));
}

#[test]
fn a_client_that_reads_late_gets_all_of_a_failed_stream_before_the_connection_breaks() {
    let daemon = Daemon::with_http();
    let bytes = noise(0, 256 * 1024);
    for chunk in bytes.chunks(10_000) {
        daemon.append(S, chunk);
    }
    daemon.pfs(["close", "--failed", S]).run().exits(0);
    let mut late = daemon.http();
    late.request("GET", S, &[], None);
    // The kernel on the daemon's side holds all bytes, because the client's receive buffer is too
    // small for them.
    eventually("the daemon has answered", || daemon.log().contains("end=\"broken\""));
    let mut got = late.head().unwrap();
    late.rest(&mut got);
    assert!(got.body == bytes && !got.whole, "{} of {} bytes", got.body.len(), bytes.len());
}

#[test]
fn server_sent_events_report_the_failure_and_break_and_a_reconnect_is_refused() {
    let daemon = Daemon::with_http();
    daemon.append(S, "so far");
    let mut live = daemon.http();
    live.request("GET", S, &[("accept", "text/event-stream")], None);
    live.head().unwrap();
    let mut events = live.piece().unwrap();
    daemon.pfs(["close", "--failed", S]).run().exits(0);
    let ended = loop {
        match live.piece() {
            Some(piece) if piece.is_empty() => break true,
            Some(piece) => events.extend(piece),
            None => break false,
        }
    };
    let events = String::from_utf8(events).unwrap();
    let (_, end) =
        events.split_once("event: end\nid: ").unwrap_or_else(|| panic!("no end: {events}"));
    let (id, told) = end.split_once('\n').unwrap();
    assert_eq!(told, "data: {\"offset\":6,\"reason\":\"failed\"}\n\n");
    assert!(!ended, "the connection breaks");
    let again = [("accept", "text/event-stream"), ("last-event-id", id)];
    daemon.ask("GET", S, again, b"").has(409).refuses("failed");
}

#[test]
fn the_durable_streams_protocol_never_says_that_a_failed_stream_is_closed() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [("content-type", "text/plain")], b"so far").has(201);
    let mut live = daemon.http();
    live.request("GET", "/v1/stream/s?offset=-1&live=sse", &[], None);
    live.head().unwrap();
    let waits = std::thread::spawn({
        let mut poll = daemon.http();
        let at = daemon.get("/v1/stream/s").header("stream-next-offset").unwrap().to_owned();
        poll.request("GET", &format!("/v1/stream/s?offset={at}&live=long-poll"), &[], None);
        move || poll.response()
    });
    eventually("both read", || daemon.readers(S) == 2);
    daemon.pfs(["close", "--failed", S]).run().exits(0);

    waits.join().unwrap().has(409).refuses("failed");
    let (mut events, mut broke) = (Vec::new(), false);
    while !broke {
        match live.piece() {
            Some(piece) if piece.is_empty() => panic!("it ended as if it were whole"),
            Some(piece) => events.extend(piece),
            None => broke = true,
        }
    }
    let events = String::from_utf8(events).unwrap();
    assert!(events.contains("so far") && !events.contains("streamClosed"), "{events}");

    let all = daemon.get("/v1/stream/s?offset=-1").has(200);
    assert_eq!((all.text(), all.header("stream-closed")), ("so far", None));
    let at = all.header("stream-next-offset").unwrap();
    for query in [
        format!("offset={at}"),
        format!("offset={at}&live=long-poll"),
        format!("offset={at}&live=sse"),
        "offset=now".to_owned(),
    ] {
        let end = daemon.get(&format!("/v1/stream/s?{query}")).has(409);
        assert_eq!(end.header("stream-closed"), None, "{query}");
        end.refuses("failed");
    }
    assert_eq!(daemon.ask("HEAD", "/v1/stream/s", [], b"").has(200).header("stream-closed"), None);
    // Writers are told that the stream accepts no more appends.
    let text = [("content-type", "text/plain")];
    let refused = daemon.ask("POST", "/v1/stream/s", text, b"more").has(409);
    assert_eq!(refused.header("stream-closed"), Some("true"));
    daemon.ask("POST", "/v1/stream/s", [("stream-closed", "true")], b"").has(409).refuses("closed");
    daemon.ask("PUT", "/v1/stream/s", text, b"").has(409).refuses("already_exists");
}

#[test]
fn an_upload_can_close_the_stream_as_failed() {
    let daemon = Daemon::with_http();
    let told = daemon.ask("PUT", "/streamfs/s?close=failed", [], b"so far").has(201);
    assert_eq!(
        told.json(),
        json!({ "path": S, "offset": 6, "bytes": 6, "created": true, "closed": true, "failed": true })
    );
    assert_eq!(daemon.stat_number(S, "writers_died"), 1);
    daemon.pfs(["cat", "--stream", S]).run().exits(8);
    daemon.append("/streamfs/t", "so far");
    daemon.ask("POST", "/streamfs/t?close=failed", [], b"").has(200);
    daemon.pfs(["cat", "--stream", "/streamfs/t"]).run().exits(8);
    daemon.ask("POST", "/streamfs/t?close=perhaps", [], b"").has(400).refuses("bad_option");
    daemon.append("/streamfs/u", "all");
    daemon.ask("POST", "/streamfs/u?close", [], b"").has(200);
    daemon.ask("POST", "/streamfs/u?close=failed", [], b"").has(409).refuses("closed");
}
