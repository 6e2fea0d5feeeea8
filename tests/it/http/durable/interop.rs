//! One stream through several protocols.

use harness::Daemon;
use serde_json::json;

use super::{JSON, TEXT, data, next};

#[test]
fn bytes_of_other_protocols_are_read_here_and_vice_versa() {
    let daemon = Daemon::with_http();
    let at = next(&daemon.ask("PUT", "/v1/stream/lab/s", [TEXT], b"one ").has(201));
    daemon.pfs(["write", "/streamfs/lab/s"]).stdin("two ").run().exits(0);
    daemon.curl(["-T", "-"], "/streamfs/lab/s").stdin("three ").run().exits(0);
    daemon.ask("POST", "/v1/stream/lab/s", [TEXT], b"four").has(204);
    assert_eq!(
        daemon.get(&format!("/v1/stream/lab/s?offset={at}")).has(200).text(),
        "two three four"
    );
    daemon.ask("POST", "/v1/stream/lab/s", [("stream-closed", "true")], b"").has(204);
    let cat = daemon.pfs(["cat", "--stream", "/streamfs/lab/s"]).run().exits(0);
    assert_eq!(cat.text(), "one two three four");

    // A stream that another protocol created holds bytes unless it has another media type.
    daemon.pfs(["write", "/streamfs/other"]).stdin("x").run().exits(0);
    let read = daemon.get("/v1/stream/other").has(200);
    assert_eq!((read.header("content-type"), read.text()), (Some("application/octet-stream"), "x"));
    daemon.ask("PUT", "/v1/stream/other", [], b"").has(200);
    daemon.close("/streamfs/other");
    let read = daemon.get("/v1/stream/other").has(200);
    assert_eq!(read.header("stream-closed"), Some("true"));
    let refused = daemon.ask(
        "POST",
        "/v1/stream/other",
        [("content-type", "application/octet-stream")],
        b"y",
    );
    assert_eq!(refused.has(409).header("stream-closed"), Some("true"));
}

#[test]
fn json_messages_are_lines_in_other_protocols_and_json_lines_are_messages() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [JSON], br#"[{"a": 1}, [2, 3]]"#).has(201);
    daemon.pfs(["write", "/streamfs/s"]).stdin("{\"b\":4}\n{\"c\":5}\n").run().exits(0);
    daemon.ask("POST", "/v1/stream/s", [JSON], b"\"six\"").has(204);
    daemon.pfs(["write", "/streamfs/s"]).stdin("no \"JSON\"").run().exits(0);
    let all = daemon.get("/v1/stream/s").has(200).json();
    assert_eq!(all, json!([{"a": 1}, [2, 3], {"b": 4}, {"c": 5}, "six", "no \"JSON\""]));
    daemon.close("/streamfs/s");
    let cat = daemon.pfs(["cat", "--stream", "/streamfs/s"]).run().exits(0);
    assert_eq!(cat.text(), "{\"a\":1}\n[2,3]\n{\"b\":4}\n{\"c\":5}\n\"six\"\nno \"JSON\"");
    // Each message is a chunk, which no reader gets in part.
    assert_eq!(daemon.stat_number("/streamfs/s", "chunks"), 5);
}

#[test]
fn a_character_split_across_two_chunks_is_whole_in_an_event() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let mut reader = daemon.http();
    reader.request("GET", "/v1/stream/s?offset=-1&live=sse", &[], None);
    let mut response = reader.head().expect("an answer").has(200);
    let (first, second) = "a€ b".as_bytes().split_at(2);
    daemon.pfs(["write", "/streamfs/s"]).stdin(first).run().exits(0);
    let mut seen = String::new();
    while data(&seen) != "a" {
        seen += std::str::from_utf8(&reader.piece().expect("it goes on")).unwrap();
    }
    daemon.pfs(["write", "/streamfs/s"]).stdin(second).run().exits(0);
    daemon.close("/streamfs/s");
    reader.rest(&mut response);
    assert!(response.whole);
    seen += response.text();
    assert_eq!(data(&seen), "a€ b");
}
