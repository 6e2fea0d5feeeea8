//! A stream as server-sent events.

use harness::{Daemon, HttpConnection, Signal, eventually};
use serde_json::{Value, json};

const S: &str = "/streamfs/s";

/// An event, as an EventSource would hand it over.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: String,
}

impl Event {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// Follows the rules by which browsers read events.
struct EventSource {
    connection: HttpConnection,
    text: String,
}

impl EventSource {
    #[track_caller]
    fn open(daemon: &Daemon, path: &str, last_event_id: Option<u64>) -> Self {
        let mut connection = daemon.http();
        let id = last_event_id.map(|id| id.to_string());
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(id.as_deref().map(|id| ("last-event-id", id)));
        connection.request("GET", path, &headers, None);
        let head = connection.head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Self { connection, text: String::new() }
    }

    /// The next event; `Err(true)` if the body ended properly before there was one, `Err(false)` if it broke.
    fn next(&mut self) -> Result<Event, bool> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (parse(event), rest.to_owned());
                self.text = rest;
                match event {
                    Some(event) => return Ok(event),
                    None => continue,
                }
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
        assert_eq!((event.name.as_str(), event.id, event.data.as_str()), (name, Some(id), data));
    }
}

/// `None` for a block that is nothing but comments.
fn parse(block: &str) -> Option<Event> {
    let mut event = Event { name: "message".to_owned(), id: None, data: String::new() };
    let mut lines = 0;
    for line in block.split('\n').filter(|line| !line.starts_with(':') && !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.parse().unwrap()),
            "data" => {
                lines += 1;
                event.data.push_str(value);
                event.data.push('\n');
            }
            _ => panic!("an unknown field: {line:?}"),
        }
    }
    event.data.pop();
    (lines > 0).then_some(event)
}

#[test]
fn chunks_are_events_with_the_offset_after_them_and_the_end_is_one_too() {
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
fn text_is_messages_however_chunks_split_its_characters_and_line_ends() {
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
        assert_eq!((end.name.as_str(), end.id), ("end", Some(sent.len() as u64)));
        assert!(text == shown, "{} bytes of text, not {}", text.len(), shown.len());
        daemon.remove(S);
    }
}

#[test]
fn a_client_that_comes_back_goes_on_after_the_last_event_that_it_saw() {
    let daemon = Daemon::with_http();
    for chunk in ["one", "two", "three"] {
        daemon.ask("PUT", S, [], chunk.as_bytes());
    }
    // What the address says was for the first time.
    let mut source = EventSource::open(&daemon, "/streamfs/s?from=oldest", Some(3));
    source.gives("message", 6, "two");
    source.gives("message", 11, "three");
    let mut curl = daemon.http();
    curl.request("GET", S, &[("accept", "text/event-stream"), ("last-event-id", "nonsense")], None);
    curl.response().has(400).refuses("bad_option");
}

#[test]
fn a_client_that_has_seen_the_end_is_told_not_to_come_back() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/streamfs/s?close", [], b"abc").has(201);
    let mut source = EventSource::open(&daemon, S, None);
    source.gives("message", 3, "abc");
    source.gives("end", 3, r#"{"offset":3,"reason":"closed"}"#);
    let again = [("accept", "text/event-stream"), ("last-event-id", "3")];
    let mut connection = daemon.http();
    connection.request("GET", S, &again, None);
    connection.response().has(204);
    // Of another stream of that name, which is not so long, it has seen nothing.
    daemon.ask("DELETE", S, [], b"").has(204);
    daemon.ask("PUT", S, [], b"x").has(201);
    let mut connection = daemon.http();
    connection.request("GET", S, &again, None);
    connection.response().has(416).refuses("not_held");
}

#[test]
fn a_gap_is_an_event_and_bytes_and_gaps_add_up() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 64 << 10, 64 << 10);
    let mut source = EventSource::open(&daemon, S, None);
    let mut writer = daemon.appender(S);
    while !daemon.all_have_lost(S) {
        writer.append(&[b'x'; 1 << 20], 64 << 10);
    }
    let sent = writer.close();
    let (mut position, mut lost) = (0, 0);
    loop {
        let event = source.next().unwrap();
        match event.name.as_str() {
            "message" => position += event.data.len() as u64,
            "gap" => {
                let gap = event.json();
                assert_eq!(gap["from"], position);
                assert!(gap["chunks"].as_u64().unwrap() > 0);
                lost += gap["to"].as_u64().unwrap() - position;
                position = gap["to"].as_u64().unwrap();
            }
            "end" => break,
            other => panic!("an unknown event {other}"),
        }
        assert_eq!(event.id, Some(position));
    }
    assert_eq!(position, sent.len() as u64);
    assert!(lost > 0, "it lost nothing, so this shows nothing");
    let mut late = EventSource::open(&daemon, S, Some(0));
    let gap = late.next().unwrap();
    assert_eq!(
        (gap.name.as_str(), &gap.json()["from"], &gap.json()["chunks"]),
        ("gap", &json!(0), &Value::Null)
    );
}

#[test]
fn a_removal_and_a_daemon_that_goes_are_failures_and_the_connection_breaks() {
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
        (failure.name.as_str(), &failure.json()["code"], failure.id),
        ("failure", &json!("removed"), None)
    );
    assert_eq!(removed.next(), Err(false));
    daemon.signal(Signal::TERM);
    let failure = stays.next().unwrap();
    assert_eq!((failure.name.as_str(), &failure.json()["code"]), ("failure", &json!("going_away")));
    assert_eq!(stays.next(), Err(false));
}

#[test]
fn a_media_type_that_is_no_text_makes_every_event_base64() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [("content-type", "video/mp2t")], b"abc").has(201);
    EventSource::open(&daemon, S, None).gives("base64", 3, "YWJj");
}

#[test]
fn two_hundred_idle_readers_cost_little_and_all_get_the_next_chunk() {
    idle_readers_cost_little_and_all_get_the_next_chunk(200);
}

pub(crate) fn idle_readers_cost_little_and_all_get_the_next_chunk(count: usize) {
    const EACH: u64 = 32 << 10;
    raise_file_limit();
    let daemon = Daemon::with_http();
    daemon.create(S);
    let open = || EventSource::open(&daemon, S, None);
    // What the first ones take, the others need not take again.
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

/// Thousands of connections are more files than a process usually may have; the daemon inherits the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
