//! Clients that close their sending direction: bytes that arrived count, and the response can still
//! be read.

use harness::{Daemon, HttpConnection, Running, Signal, eventually, noise, noise_file};

const S: &str = "/streamfs/s";

/// More than a socket and the HTTP server's buffers hold, less than the ring buffer.
const BODY: usize = 3_000_000;

/// A request that appends to `S`: its head, and whether it closes the stream.
struct Upload {
    head: &'static str,
    chunked: bool,
    closes: bool,
}

const UPLOADS: [Upload; 4] = [
    Upload { head: "PUT /streamfs/s?close", chunked: true, closes: true },
    Upload { head: "PUT /streamfs/s?close", chunked: false, closes: true },
    Upload { head: "POST /v1/stream/s", chunked: false, closes: false },
    Upload { head: "PUT /api/v1/files?path=/streamfs/s", chunked: false, closes: false },
];

impl Upload {
    /// Sends the complete request with this body.
    fn send(&self, connection: &mut HttpConnection, body: &[u8]) {
        let (method, path) = self.head.split_once(' ').unwrap();
        let headers = [("content-type", "text/plain")];
        if self.chunked {
            connection.begin(method, path, &headers);
            connection.chunk(body).end_chunks();
        } else {
            connection.request(method, path, &headers, Some(body));
        }
    }
}

#[test]
fn a_body_that_was_sent_whole_is_appended_although_the_client_hangs_up_at_once() {
    let daemon = Daemon::with_http();
    let body = noise(1, BODY);
    for upload in &UPLOADS {
        for _ in 0..8 {
            daemon.ask("PUT", "/v1/stream/s", [("content-type", "text/plain")], b"").has(201);
            let mut client = daemon.http();
            upload.send(&mut client, &body);
            drop(client);
            eventually("the writer has gone", || {
                let stat = daemon.stat(S).unwrap();
                stat["writers_finished"] == 1 || stat["writers_died"] == 1
            });
            let stat = daemon.stat(S).unwrap();
            assert_eq!(
                (&stat["head"], &stat["writers_died"]),
                (&BODY.into(), &0.into()),
                "{} {stat}",
                upload.head
            );
            assert_eq!(stat["state"] == "closed", upload.closes, "{} {stat}", upload.head);
            let got = daemon.get("/streamfs/s?until=caught-up").has(200).body;
            assert!(got == body, "{}: other bytes than were sent", upload.head);
            daemon.ask("DELETE", S, [], b"").has(204);
        }
    }
}

#[test]
fn pipelined_requests_are_carried_out_although_the_client_reads_no_response() {
    let daemon = Daemon::with_http();
    // Together less than the kernel accepts on a connection before the daemon reads.
    let body = noise(1, 5000);
    for round in 1..=20 {
        let mut client = daemon.http();
        for _ in 0..3 {
            client.request("PUT", S, &[], Some(&body));
        }
        drop(client);
        eventually("all of them are written", || daemon.head(S) == round * 15_000);
        eventually("their writers have gone", || {
            daemon.stat(S).unwrap()["writers"].get(0).is_none()
        });
        assert_eq!(daemon.stat_number(S, "writers_died"), 0);
    }
}

/// Starts a daemon with a `block` reader of `S` that reads nothing.
fn stalled() -> (Daemon, Running) {
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"64KB\"\nchannel_buffer_size = \"64KB\"\n",
    );
    daemon.ask("PUT", "/v1/stream/s", [("content-type", "text/plain")], b"").has(201);
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    daemon.ask("PUT", S, [], &noise(1, 60_000)).has(200);
    (daemon, reader)
}

/// Waits until a writer waits for the reader.
fn writer_waits(daemon: &Daemon) {
    eventually("the writer waits", || daemon.stat(S).unwrap()["writers"][0]["waiting"] == true);
}

/// Waits until the daemon notices that the only writer has died.
#[track_caller]
fn writer_dies(daemon: &Daemon, what: &str) {
    eventually("the writer has gone", || daemon.stat(S).unwrap()["writers"].get(0).is_none());
    assert_eq!(daemon.stat_number(S, "writers_died"), 1, "{what}");
}

#[test]
fn a_writer_that_disconnects_while_a_block_reader_stands_still_is_noticed() {
    // All at the same time, because the daemon waits a while for each of them.
    let mut gone = Vec::new();
    for upload in &UPLOADS {
        for resets in [false, true] {
            let (daemon, reader) = stalled();
            let mut client = daemon.http();
            upload.send(&mut client, &noise(2, 60_000));
            writer_waits(&daemon);
            if resets {
                client.reset_when_dropped();
            }
            drop(client);
            gone.push((daemon, reader, upload.head));
        }
    }
    for (daemon, _reader, what) in &gone {
        writer_dies(daemon, what);
    }
}

/// The client's kernel cannot send the end of the connection, because the daemon reads none of the
/// bytes before it.
#[test]
fn a_writer_that_is_killed_in_a_large_body_while_a_block_reader_stands_still_is_noticed() {
    let gone = ["--http1.1", "--http2-prior-knowledge"].map(|version| {
        let (daemon, reader) = stalled();
        let file = daemon.dir().join("data");
        noise_file(&file, 2, 64 * 1024 * 1024);
        let curl = daemon.curl([version, "-T", file.to_str().unwrap()], S).spawn();
        writer_waits(&daemon);
        curl.signal(Signal::KILL);
        (daemon, reader, version)
    });
    for (daemon, _reader, version) in &gone {
        writer_dies(daemon, version);
    }
}

#[test]
fn a_client_that_half_closes_gets_its_response() {
    let daemon = Daemon::with_http();
    for upload in &UPLOADS {
        for _ in 0..8 {
            daemon.ask("PUT", "/v1/stream/s", [("content-type", "text/plain")], b"").has(201);
            let mut client = daemon.http();
            upload.send(&mut client, b"hello");
            client.end_sending();
            let answer = client.response();
            assert!((200..300).contains(&answer.status), "{}: {answer:?}", upload.head);
            daemon.ask("DELETE", S, [], b"").has(204);
        }
    }
}

#[test]
fn a_reader_that_half_closes_is_still_served() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"history").has(201);
    for accept in ["*/*", "text/event-stream"] {
        let mut early = daemon.http();
        early.request("GET", S, &[("accept", accept)], None);
        early.end_sending();
        let mut head = early.head().expect("an answer");
        let mut late = daemon.http();
        late.request("GET", S, &[("accept", accept)], None);
        let mut late_head = late.head().expect("an answer");
        gets(&mut late, "history");
        late.end_sending();
        daemon.ask("PUT", S, [], b"live").has(200);
        gets(&mut early, "live");
        gets(&mut late, "live");
        daemon.ask("DELETE", S, [], b"").has(204);
        early.rest(&mut head);
        late.rest(&mut late_head);
        daemon.ask("PUT", S, [], b"history").has(201);
    }
}

/// Reads the body of a response up to this text.
#[track_caller]
fn gets(connection: &mut HttpConnection, text: &str) {
    let mut got = String::new();
    while !got.contains(text) {
        let piece =
            connection.piece().unwrap_or_else(|| panic!("the answer broke off after {got:?}"));
        assert!(!piece.is_empty(), "the answer ended after {got:?}");
        got.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

#[test]
fn a_reader_that_half_closes_and_then_leaves_is_noticed_while_nothing_is_sent() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"history").has(201);
    // A body is meaningless in a GET, and changes nothing whether it is read or not.
    for body in [None, Some(&b"body"[..])] {
        let mut reader = daemon.http();
        reader.request("GET", S, &[], body);
        reader.end_sending();
        assert_eq!(reader.head().expect("an answer").status, 200);
        gets(&mut reader, "history");
        assert_eq!(daemon.readers(S), 1);
        drop(reader);
        daemon.has_readers(S, 0);
    }
}
