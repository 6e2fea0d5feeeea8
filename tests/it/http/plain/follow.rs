//! GET: history, live bytes, and every way a response ends.

use harness::{Daemon, HttpConnection, Signal, eventually};

use super::{S, head_reaches, reading};

#[test]
fn curl_gets_history_then_live_bytes_and_succeeds_when_the_stream_is_closed() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"history ").has(201);
    let reader = daemon.curl(["-f"], S).spawn();
    eventually("history has come", || reader.stdout() == b"history ");
    daemon.ask("PUT", S, [], b"live ").has(200);
    eventually("the live part has come", || reader.stdout() == b"history live ");
    daemon.ask("PUT", "/streamfs/s?close", [], b"end").has(200);
    assert_eq!(reader.finish().exits(0).stdout, b"history live end");
}

#[test]
fn a_reader_starts_and_ends_where_it_is_told_to() {
    let daemon = Daemon::with_http();
    for chunk in ["one ", "two ", "three "] {
        daemon.ask("PUT", S, [], chunk.as_bytes()).has(200 + u16::from(chunk == "one "));
    }
    for (query, start, expected) in [
        ("", "0", "one two three "),
        ("&from=oldest", "0", "one two three "),
        ("&from=newest", "14", ""),
        ("&from=5", "5", "wo three "),
        ("&from=14", "14", ""),
        ("&tail=10", "4", "two three "),
        ("&tail=8", "6", "o three "),
        ("&tail=1", "13", " "),
        ("&tail=1KB&slow=disconnect", "0", "one two three "),
        ("&since=1h", "0", "one two three "),
    ] {
        let got = daemon.get(&format!("{S}?until=caught-up{query}")).has(200);
        assert_eq!((got.header("pfs-start"), got.text()), (Some(start), expected), "{query}");
        assert_eq!(
            got.header("content-length"),
            Some(expected.len().to_string().as_str()),
            "{query}"
        );
    }
    let got = daemon.get("/streamfs/s?until=writers-gone").has(200);
    assert_eq!((got.text(), got.whole), ("one two three ", true));
}

#[test]
fn the_length_of_a_closed_stream_is_known_and_that_of_an_open_one_is_not() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"abc").has(201);
    let mut open = daemon.http();
    open.request("GET", S, &[], None);
    let head = open.head().unwrap();
    assert_eq!(
        (head.header("content-length"), head.header("transfer-encoding")),
        (None, Some("chunked"))
    );
    daemon.close(S);
    let closed = daemon.get(S).has(200);
    assert_eq!((closed.header("content-length"), closed.text()), (Some("3"), "abc"));
}

#[test]
fn http_2_has_the_same_ends() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"abc").has(201);
    let curl = || daemon.curl(["-f", "--http2-prior-knowledge"], S).spawn();
    let (well, badly) = (curl(), curl());
    eventually("both have the history", || well.stdout() == b"abc" && badly.stdout() == b"abc");
    badly.signal(Signal::STOP);
    daemon.ask("PUT", "/streamfs/s?close", [], b"def").has(200);
    assert_eq!(well.finish().exits(0).stdout, b"abcdef");
    badly.signal(Signal::CONT);
    assert_eq!(badly.finish().exits(0).stdout, b"abcdef");

    daemon.ask("PUT", "/streamfs/t", [], b"abc").has(201);
    let removed = daemon.curl(["-f", "--http2-prior-knowledge"], "/streamfs/t").spawn();
    eventually("history has come", || removed.stdout() == b"abc");
    daemon.ask("DELETE", "/streamfs/t", [], b"").has(204);
    assert_ne!(removed.finish().code, 0);
}

#[test]
fn a_missing_stream_is_404_unless_the_reader_waits_for_it() {
    let daemon = Daemon::with_http();
    daemon.get(S).has(404).refuses("no_such_stream");
    assert_eq!(daemon.curl(["-f"], S).run().code, 22);
    let waiting = daemon.curl(["-f"], "/streamfs/s?wait").spawn();
    assert!(daemon.streams().is_empty(), "waiting creates nothing");
    daemon.ask("PUT", "/streamfs/s?close", [], b"abc").has(201);
    assert_eq!(waiting.finish().exits(0).stdout, b"abc");
}

/// Follows a stream with curl, calls `happens`, and expects curl to fail with the bytes that
/// it had.
#[track_caller]
fn breaks_curl(daemon: &mut Daemon, query: &str, happens: impl FnOnce(&mut Daemon)) {
    daemon.ask("PUT", S, [], b"abc").has(201);
    let reader = daemon.curl(["-f"], &format!("{S}{query}")).spawn();
    eventually("history has come", || reader.stdout() == b"abc");
    happens(daemon);
    let run = reader.finish();
    assert!(matches!(run.code, 18 | 56), "curl ended with {}: {}", run.code, run.stderr);
    assert_eq!(run.stdout, b"abc", "what it had before");
}

#[test]
fn a_removal_is_not_the_end() {
    breaks_curl(&mut Daemon::with_http(), "", |daemon| {
        daemon.curl(["-f", "-X", "DELETE"], S).run().exits(0);
    });
}

#[test]
fn a_writer_that_died_is_not_the_end_of_the_writers() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let mut reader = reading(&daemon, "/streamfs/s?until=writers-gone");
    let mut put = daemon.http();
    put.begin("PUT", S, &[]);
    put.chunk(b"abc");
    assert_eq!(reader.pieces(3), b"abc");
    drop(put);
    assert_eq!(reader.piece(), None, "the connection breaks");
}

/// Returns the body of a reader that was stopped until it was too far behind, and whether the body
/// was complete.
fn sleeper_gets(daemon: &Daemon, policy: &str) -> (Vec<u8>, bool) {
    daemon.create_with_buffers(S, 64 * 1024, 64 * 1024);
    let mut reader = reading(daemon, &format!("{S}?slow={policy}"));
    let mut writer = daemon.appender(S);
    writer.append_until(64 * 1024, || daemon.all_have_lost(S));
    let sent = writer.close();
    let mut got = Vec::new();
    let ended = loop {
        match reader.piece() {
            Some(piece) if piece.is_empty() => break true,
            Some(piece) => got.extend(piece),
            None => break false,
        }
    };
    assert!(sent.starts_with(&got), "what came before the loss is whole");
    assert!(got.len() < sent.len(), "it lost nothing, so this shows nothing");
    (got, ended)
}

#[test]
fn a_reader_that_lost_something_sees_its_connection_break() {
    let daemon = Daemon::with_http();
    let (_, ended) = sleeper_gets(&daemon, "drop");
    assert!(!ended, "a damaged copy must not end as if it were whole");
    eventually("the log tells of it", || daemon.log().contains("reader lost data"));
}

#[test]
fn a_reader_that_is_disconnected_for_being_slow_sees_its_connection_break() {
    let (_, ended) = sleeper_gets(&Daemon::with_http(), "disconnect");
    assert!(!ended);
}

#[test]
fn an_offset_that_the_ring_does_not_hold_is_416_and_the_held_range_is_named() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 1000, 1000);
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    let tail = daemon.stat_number(S, "tail");
    assert!(tail > 0);
    for offset in [0, tail - 1, 5001] {
        let refused = daemon.get(&format!("{S}?from={offset}")).has(416);
        assert!(refused.refuses("not_held").contains(&tail.to_string()));
        assert_eq!(refused.header("content-range"), Some("bytes */5000"));
        assert_eq!(
            (refused.header("pfs-tail"), refused.header("pfs-head")),
            (Some(tail.to_string().as_str()), Some("5000"))
        );
    }
    assert_eq!(
        daemon.get(&format!("{S}?from={tail}&until=caught-up")).has(200).body.len() as u64,
        5000 - tail
    );
}

#[test]
fn a_reader_that_leaves_is_noticed_while_nothing_is_sent() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let readers: Vec<HttpConnection> = (0..3).map(|_| reading(&daemon, S)).collect();
    assert_eq!(daemon.readers(S), 3);
    drop(readers);
    daemon.has_readers(S, 0);
    daemon.ask("PUT", S, [], b"abc").has(200);
    head_reaches(&daemon, 3);
}
