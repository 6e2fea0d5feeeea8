//! Shutdown while the daemon serves HTTP.

use harness::{Daemon, Running, Signal, eventually};

const S: &str = "/streamfs/s";

#[test]
fn sigterm_breaks_live_readers_tells_the_others_and_exits_0() {
    let daemon = Daemon::with_http();
    daemon.append(S, "so far");
    let readers =
        ["--http1.1", "--http2-prior-knowledge"].map(|version| daemon.curl([version], S).spawn());
    for reader in &readers {
        eventually("it has read", || reader.stdout() == b"so far");
    }
    // Reads responses while its input is silent, which `-T -` does not.
    let mut writer = daemon.curl(["-T", "."], S).stdin_pipe().spawn();
    writer.send(b"more");
    eventually("it is written", || daemon.head(S) == 10);
    let mut idle = daemon.http();
    idle.request("GET", "/healthz", &[], None);
    idle.response().has(200);
    let mut silent = daemon.http();
    let address = daemon.http_address();
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0, "its log: {}", ended.stderr);
    for reader in readers {
        let reader = reader.finish();
        // A partial file, a broken connection, or a reset HTTP/2 stream.
        assert!([18, 56, 92].contains(&reader.code), "curl: {} {}", reader.code, reader.stderr);
        assert!(reader.stdout.starts_with(b"so far"), "what it had before");
    }
    assert!(idle.until_hung_up().is_empty());
    assert!(silent.until_hung_up().is_empty());
    eventually("the writer is told", || {
        String::from_utf8_lossy(&writer.stdout()).contains("shutting down")
    });
    writer.finish();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn shutdown_does_not_wait_for_an_unfinished_body() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/s", [("content-type", "text/plain")], b"").has(201);
    let mut uploads = [
        ("POST", "/v1/stream/s"),
        ("PUT", "/v1/stream/other"),
        ("PUT", "/api/v1/files?path=/streamfs/s"),
        ("PUT", "/streamfs/s"),
    ]
    .map(|(method, path)| {
        let mut upload = daemon.http();
        let head =
            "host: localhost\r\ncontent-type: text/plain\r\ncontent-length: 10\r\nexpect: 100-continue";
        upload.send(format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes());
        assert_eq!(upload.head().expect("an answer").status, 100, "the body is being read");
        upload.send(b"half");
        upload
    });
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0);
    // The daemon cuts the remaining connections without a response.
    for upload in &mut uploads {
        let answer = String::from_utf8(upload.until_hung_up()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting down"),
            "{answer}"
        );
    }
}

#[test]
fn a_killed_daemon_is_not_taken_for_the_end_of_a_stream() {
    let mut daemon = Daemon::with_http();
    daemon.append(S, "so far");
    let readers =
        ["--http1.1", "--http2-prior-knowledge"].map(|version| daemon.curl([version], S).spawn());
    for reader in &readers {
        eventually("it has read", || reader.stdout() == b"so far");
    }
    daemon.kill9();
    let [first, second] = readers.map(Running::finish);
    // A partial file or a broken connection.
    assert!([18, 56].contains(&first.code), "curl: {} {}", first.code, first.stderr);
    assert_ne!(second.code, 0, "curl took it for the end");
    assert_eq!((first.text(), second.text()), ("so far", "so far"));
}

#[test]
fn a_daemon_that_starts_again_serves_on_the_same_port_at_once() {
    let mut daemon = Daemon::with_http();
    let mut held: Vec<_> = (0..5).map(|_| daemon.http()).collect();
    for connection in &mut held {
        connection.request("GET", "/healthz", &[], None);
        connection.response().has(200);
    }
    let address = daemon.http_address();
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.http_address(), address);
    daemon.get("/healthz").has(200);
}
