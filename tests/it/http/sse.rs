//! Streams as server-sent events.

use harness::{
    Daemon, HttpConnection, ServerSentEvent as Event, Signal, Transport, eventually,
    raise_file_limit,
};
use serde_json::{Value, json};

const S: &str = "/streamfs/s";

/// Client that follows the rules of browsers for events.
struct EventSource {
    connection: HttpConnection,
    text: String,
    /// Id that the client sends when it reconnects.
    last_id: Option<String>,
}

impl EventSource {
    #[track_caller]
    fn open(daemon: &Daemon, path: &str, last_event_id: Option<&str>) -> Self {
        let mut connection = asking(daemon, path, last_event_id);
        let head = connection.head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Self { connection, text: String::new(), last_id: last_event_id.map(str::to_owned) }
    }

    /// Reconnects after the connection broke.
    #[track_caller]
    fn again(self, daemon: &Daemon) -> Self {
        Self::open(daemon, S, self.last_id.as_deref())
    }

    /// Returns the next event; `Err(true)` if the body ended properly before it, `Err(false)` if
    /// the body broke.
    fn next(&mut self) -> Result<Event, bool> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let ((event, has_data), rest) = (Event::parse(event), rest.to_owned());
                self.text = rest;
                // A block without data is not an event, but its id counts.
                self.last_id = event.id.clone().or(self.last_id.take());
                if has_data {
                    return Ok(event);
                }
                continue;
            }
            match self.connection.piece() {
                Some(piece) if piece.is_empty() => return Err(true),
                Some(piece) => self.text.push_str(std::str::from_utf8(&piece).unwrap()),
                None => return Err(false),
            }
        }
    }

    #[track_caller]
    fn gives(&mut self, name: &str, id: u64, data: &str) {
        let event = self.next().unwrap();
        assert_eq!(
            (event.name.as_str(), event.offset(), event.data.as_str()),
            (name, Some(id), data)
        );
    }

    /// Expects the `removed` event of the followed stream. Returns the id to send on the
    /// next reconnect.
    #[track_caller]
    fn gives_removed(&mut self, identity: &str) -> Option<String> {
        let event = self.next().unwrap();
        assert_eq!(
            (event.name.as_str(), &event.json()),
            ("removed", &json!({ "identity": identity }))
        );
        event.id
    }
}

/// Opens a connection and requests events.
fn asking(daemon: &Daemon, path: &str, last_event_id: Option<&str>) -> HttpConnection {
    let mut connection = daemon.http();
    let mut headers = vec![("accept", "text/event-stream")];
    headers.extend(last_event_id.map(|id| ("last-event-id", id)));
    connection.request("GET", path, &headers, None);
    connection
}

/// Returns the identity of the stream, from its entity tag.
#[track_caller]
fn identity(daemon: &Daemon) -> String {
    let mut connection = daemon.http();
    connection.request("HEAD", S, &[], None);
    let head = connection.response().has(200);
    head.header("etag").unwrap().trim_matches('"').to_owned()
}

#[test]
fn a_large_event_breaks_when_its_chunk_is_overwritten_and_a_reconnect_gets_an_exact_gap() {
    // More than all buffers on the way to a reader hold.
    const LARGE: usize = 16 * 1024 * 1024;
    // Without a previous event, the client knows its place from the id at the start.
    for before in ["before", ""] {
        let daemon = Transport::Http.daemon_with_buffers(LARGE as u64, LARGE as u64);
        daemon.create(S);
        let start = before.len() as u64;
        let mut source = EventSource::open(&daemon, S, None);
        if !before.is_empty() {
            daemon.append(S, before);
            source.gives("message", start, before);
        }
        daemon.append(S, "b".repeat(LARGE));
        while !source.text.contains("data: bbb") {
            let piece = source.connection.piece().unwrap();
            source.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        daemon.append(S, "after");
        assert_eq!(source.next(), Err(false), "the event does not end");
        let mut source = source.again(&daemon);
        let gap = source.next().unwrap();
        let end = start + LARGE as u64;
        assert_eq!((gap.name.as_str(), gap.offset()), ("gap", Some(end)));
        assert_eq!(
            (gap.json()["from"].as_u64(), gap.json()["to"].as_u64()),
            (Some(start), Some(end))
        );
        source.gives("message", end + 5, "after");
    }
}

#[test]
fn each_chunk_is_an_event_whose_id_is_the_offset_after_it_and_the_end_is_an_event_too() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"two\nlines\n").has(201);
    let mut source = EventSource::open(&daemon, S, None);
    source.gives("message", 10, "two\nlines\n");
    daemon.ask("PUT", S, [], "  späße".as_bytes()).has(200);
    source.gives("message", 19, "  späße");
    daemon.ask("PUT", S, [], b"\x00\xff\r\n").has(200);
    source.gives("base64", 23, "AP8NCg==");
    daemon.ask("POST", "/streamfs/s?close", [], b"").has(200);
    source.gives("end", 23, r#"{"offset":23,"reason":"closed"}"#);
    assert_eq!(source.next(), Err(true));
}

#[test]
fn text_becomes_messages_however_chunks_split_characters_and_line_ends() {
    let daemon = Daemon::with_http();
    let lines = "GPGGA,1\r\nGPGGA,2\r\n";
    let long = "€".repeat(200_000);
    for (sent, shown) in [(lines, lines.replace("\r\n", "\n")), (&long, long.clone())] {
        let write = daemon.pfs(["write", "--stream", "--close", S]).stdin(sent.as_bytes().to_vec());
        write.run().exits(0);
        let mut source = EventSource::open(&daemon, S, None);
        let mut text = String::new();
        let end = loop {
            match source.next().unwrap() {
                event if event.name == "message" => text.push_str(&event.data),
                event => break event,
            }
        };
        assert_eq!((end.name.as_str(), end.offset()), ("end", Some(sent.len() as u64)));
        assert!(text == shown, "{} bytes of text, not {}", text.len(), shown.len());
        daemon.remove(S);
    }
}

#[test]
fn a_client_that_reconnects_resumes_after_the_last_event_that_it_saw() {
    let daemon = Daemon::with_http();
    for chunk in ["one", "two", "three"] {
        daemon.ask("PUT", S, [], chunk.as_bytes());
    }
    let id = |offset| format!("{}:{offset}", identity(&daemon));
    let mut first = EventSource::open(&daemon, S, None);
    assert_eq!(first.next().unwrap().id, Some(id(3)), "an id is an identity and an offset");
    // The query in the URL applies only to the first connection.
    let mut source = EventSource::open(&daemon, "/streamfs/s?from=oldest", Some(&id(3)));
    source.gives("message", 6, "two");
    source.gives("message", 11, "three");
    asking(&daemon, S, Some(&id(12))).response().has(416).refuses("not_held");
}

#[test]
fn an_event_id_that_names_no_stream_is_refused_with_the_valid_form() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"one").has(201);
    for id in ["3", "nonsense", ":3", &identity(&daemon), &format!("{}:x", identity(&daemon))] {
        let message = asking(&daemon, S, Some(id)).response().has(400).refuses("bad_option");
        assert!(message.contains("Last-Event-ID") && message.contains(":1234"), "{message}");
    }
}

#[test]
fn a_client_that_reconnects_to_another_stream_is_told_and_gets_all_of_it() {
    let mut daemon = Daemon::with_http();
    for restarts in [false, true] {
        daemon.ask("PUT", S, [], b"of before").has(201);
        let mut source = EventSource::open(&daemon, S, None);
        source.gives("message", 9, "of before");
        let old = identity(&daemon);
        if restarts {
            daemon.kill9();
            daemon.restart();
        } else {
            daemon.ask("DELETE", S, [], b"").has(204);
        }
        for chunk in ["fresh", "and longer than before"] {
            daemon.ask("PUT", S, [], chunk.as_bytes());
        }
        let new = identity(&daemon);
        assert_ne!(old, new);
        let mut source = source.again(&daemon);
        assert_eq!(source.gives_removed(&old), Some(format!("{new}:0")));
        // The connection may break again before the next event, and the client is not told twice.
        let mut source = source.again(&daemon);
        source.gives("message", 5, "fresh");
        source.gives("message", 27, "and longer than before");
        assert_eq!(source.last_id, Some(format!("{new}:27")));
        daemon.ask("DELETE", S, [], b"").has(204);
    }
}

#[test]
fn a_client_that_reconnects_to_no_stream_waits_for_the_next_one() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"of before").has(201);
    let old = identity(&daemon);
    let mut source = EventSource::open(&daemon, S, None);
    source.gives("message", 9, "of before");
    daemon.ask("DELETE", S, [], b"").has(204);
    asking(&daemon, S, None).response().has(404).refuses("no_such_stream");
    let mut source = source.again(&daemon);
    assert_eq!(source.gives_removed(&old), None, "there is no place yet to come back to");
    // This holds for each reconnect until then.
    let mut source = source.again(&daemon);
    source.gives_removed(&old);
    assert!(daemon.streams().is_empty(), "waiting creates nothing");
    daemon.ask("PUT", "/streamfs/s?close", [], b"fresh").has(201);
    source.gives("message", 5, "fresh");
    assert_eq!(source.last_id, Some(format!("{}:5", identity(&daemon))));
    source.gives("end", 5, r#"{"offset":5,"reason":"closed"}"#);
    assert_eq!(source.next(), Err(true));
}

#[test]
fn the_lost_start_of_another_stream_is_a_gap_for_a_client_that_reconnects() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"of before").has(201);
    let mut source = EventSource::open(&daemon, S, None);
    source.gives("message", 9, "of before");
    daemon.ask("DELETE", S, [], b"").has(204);
    daemon.create_with_buffers(S, 1000, 1000);
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    let mut source = source.again(&daemon);
    assert_eq!(source.next().unwrap().name, "removed");
    let (gap, tail) = (source.next().unwrap(), daemon.stat_number(S, "tail"));
    assert!(tail > 0);
    assert_eq!(
        (gap.name.as_str(), gap.offset(), &gap.json()["from"]),
        ("gap", Some(tail), &json!(0))
    );
}

#[test]
fn a_client_that_has_seen_the_end_is_told_not_to_reconnect() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/streamfs/s?close", [], b"abc").has(201);
    let mut source = EventSource::open(&daemon, S, None);
    source.gives("message", 3, "abc");
    source.gives("end", 3, r#"{"offset":3,"reason":"closed"}"#);
    asking(&daemon, S, source.last_id.as_deref()).response().has(204);
    // The client has seen nothing of another stream with the same name that ends at the
    // same offset.
    let old = identity(&daemon);
    daemon.ask("DELETE", S, [], b"").has(204);
    daemon.ask("PUT", "/streamfs/s?close", [], b"new").has(201);
    let mut source = source.again(&daemon);
    source.gives_removed(&old);
    source.gives("message", 3, "new");
    source.gives("end", 3, r#"{"offset":3,"reason":"closed"}"#);
    asking(&daemon, S, source.last_id.as_deref()).response().has(204);
}

#[test]
fn a_gap_is_an_event_and_bytes_and_gaps_add_up() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 64 * 1024, 64 * 1024);
    let mut source = EventSource::open(&daemon, S, None);
    let mut writer = daemon.appender(S);
    while !daemon.all_have_lost(S) {
        writer.append(&[b'x'; 1024 * 1024], 64 * 1024);
    }
    let sent = writer.close();
    let (mut position, mut lost) = (0, 0);
    loop {
        let event = match source.next() {
            Ok(event) => event,
            // A chunk that was overwritten after a part of it was sent becomes a gap when the
            // client reconnects.
            Err(whole) => {
                assert!(!whole, "the body ended without saying so");
                source = source.again(&daemon);
                continue;
            }
        };
        match event.name.as_str() {
            "message" => position += event.data.len() as u64,
            "gap" => {
                let gap = event.json();
                assert_eq!(gap["from"], position);
                assert!(gap["chunks"].as_u64().is_none_or(|chunks| chunks > 0));
                lost += gap["to"].as_u64().unwrap() - position;
                position = gap["to"].as_u64().unwrap();
            }
            "end" => break,
            other => panic!("an unknown event {other}"),
        }
        assert_eq!(event.offset(), Some(position));
    }
    assert_eq!(position, sent.len() as u64);
    assert!(lost > 0, "it lost nothing, so this shows nothing");
    let mut late = EventSource::open(&daemon, S, Some(&format!("{}:0", identity(&daemon))));
    let gap = late.next().unwrap();
    assert_eq!(
        (gap.name.as_str(), &gap.json()["from"], &gap.json()["chunks"]),
        ("gap", &json!(0), &Value::Null)
    );
}

#[test]
fn a_removal_and_a_shutdown_are_failures_and_break_the_connection() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"abc").has(201);
    daemon.ask("PUT", "/streamfs/t", [], b"abc").has(201);
    let open = |path| {
        let mut source = EventSource::open(&daemon, path, None);
        source.gives("message", 3, "abc");
        source
    };
    let (mut removed, mut stays) = (open(S), open("/streamfs/t"));
    daemon.ask("DELETE", S, [], b"").has(204);
    let failure = removed.next().unwrap();
    assert_eq!(
        (failure.name.as_str(), &failure.json()["code"], failure.identity()),
        ("failure", &json!("removed"), None)
    );
    assert_eq!(removed.next(), Err(false));
    daemon.signal(Signal::TERM);
    let failure = stays.next().unwrap();
    assert_eq!(
        (failure.name.as_str(), &failure.json()["code"]),
        ("failure", &json!("shutting_down"))
    );
    assert_eq!(stays.next(), Err(false));
}

#[test]
fn a_media_type_that_is_not_text_makes_every_event_base64() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [("content-type", "video/mp2t")], b"abc").has(201);
    EventSource::open(&daemon, S, None).gives("base64", 3, "YWJj");
}

#[test]
fn two_hundred_idle_readers_cost_little_and_all_get_the_next_chunk() {
    idle_readers_cost_little_and_all_get_the_next_chunk(200);
}

pub(crate) fn idle_readers_cost_little_and_all_get_the_next_chunk(count: usize) {
    const EACH: u64 = 32 * 1024;
    raise_file_limit();
    let daemon = Daemon::with_http();
    daemon.create(S);
    let open = || EventSource::open(&daemon, S, None);
    // The first readers allocate shared memory once, which later readers reuse.
    let first: Vec<_> = (0..20).map(|_| open()).collect();
    let before = daemon.memory();
    let mut sources: Vec<_> = (0..count).map(|_| open()).collect();
    let attached = daemon.memory().saturating_sub(before) / count as u64;
    daemon.ask("PUT", S, [], b"news").has(200);
    for source in &mut sources {
        source.gives("message", 4, "news");
    }
    let used = daemon.memory().saturating_sub(before) / count as u64;
    assert!(attached < EACH && used < EACH, "{attached} and {used} bytes");
    drop((first, sources));
    daemon.has_readers(S, 0);
    eventually("the daemon still answers", || daemon.get("/streamfs/").status == 200);
}
