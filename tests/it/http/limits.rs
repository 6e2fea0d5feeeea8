//! What a client can take from the daemon over HTTP, and no more.

use std::time::{Duration, Instant};

use super::everything_else_is_given_up;
use harness::{Daemon, HttpConnection, Pfs, eventually, noise};

const S: &str = "/streamfs/s";

#[test]
fn a_header_of_10_mb_is_431_and_costs_no_memory() {
    let daemon = Daemon::with_http();
    let before = daemon.memory();
    for _ in 0..5 {
        let mut connection = daemon.http();
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-large: ");
        for _ in 0..160 {
            connection.send(&[b'x'; 64 << 10]);
        }
        connection.send(b"\r\n\r\n");
        connection.response().has(431);
        connection.until_hung_up();
    }
    assert!(daemon.memory() < before + (8 << 20), "{} from {before}", daemon.memory());
}

#[test]
fn who_is_refused_while_still_sending_can_read_why_and_is_not_cut_off() {
    let daemon = Daemon::with_http();
    let mut connection = daemon.http();
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-large: ").send(&[b'x'; 256 << 10]);
    connection.response().has(431);
    // A connection that was just closed would be reset by the first of these.
    for _ in 0..100 {
        assert!(connection.offer(&[b'x'; 1 << 10]), "the connection was cut off");
    }
}

#[test]
fn headers_are_as_large_and_as_many_as_is_allowed() {
    let daemon = Daemon::with_http_config("[limits]\nmax_header_size = \"8KB\"\n");
    for (len, status) in [(7_000, 200), (9_000, 431), (60_000, 431)] {
        let answer = daemon.ask("GET", "/healthz", [("x-large", &*"x".repeat(len))], b"").has(status);
        if status == 431 {
            assert!(answer.refuses("headers_too_large").contains("8192"));
        }
        let header = format!("x-large: {}", "x".repeat(len));
        let args = ["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header];
        assert_eq!(daemon.curl(args, "/healthz").run().exits(0).text(), status.to_string());
    }
    let mut connection = daemon.http();
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n");
    for i in 0..1000 {
        connection.send(format!("x-{i}: y\r\n").as_bytes());
    }
    connection.send(b"\r\n");
    connection.response().has(431);
}

#[test]
fn a_client_that_sends_its_headers_too_slowly_is_told_and_dropped() {
    let daemon = Daemon::with_http_config("[limits]\nheader_time = \"1s\"\n");
    let mut slow: Vec<HttpConnection> = (0..20).map(|_| daemon.http()).collect();
    for connection in &mut slow {
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ");
    }
    // A byte now and then from each, as slow-loris clients do, for as long as they are let.
    eventually("none of them is listened to any more", || {
        slow.iter_mut().map(|connection| connection.offer(b"x")).filter(|heard| *heard).count() == 0
    });
    for connection in &mut slow {
        let answer = connection.until_hung_up();
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{text}");
    }

    let mut partly = daemon.http();
    partly.send(b"GET /heal");
    partly.response().has(408).refuses("too_slow");
    let mut silent = daemon.http();
    assert!(silent.until_hung_up().is_empty(), "there is nothing to say to who said nothing");
    daemon.get("/healthz").has(200);
}

#[test]
fn a_connection_without_requests_is_closed_after_a_while() {
    let daemon = Daemon::with_http_config("[limits]\nidle_time = \"1s\"\n");
    let mut connection = daemon.http();
    let mut last = Instant::now();
    for _ in 0..3 {
        last = Instant::now();
        connection.request("GET", "/healthz", &[], None);
        connection.response().has(200);
    }
    assert!(connection.until_hung_up().is_empty());
    assert!(last.elapsed() >= Duration::from_secs(1), "after {:?}", last.elapsed());
}

#[test]
fn a_body_of_known_length_that_stalls_is_408() {
    let daemon = Daemon::with_http_config("[limits]\nbody_stall_time = \"1s\"\n");
    daemon.create(S);
    for path in [S, "/v1/stream/s", "/api/v1/files?path=/streamfs/s"] {
        let mut connection = daemon.http();
        let headers = [("content-length", "10"), ("content-type", "application/octet-stream")];
        let method = if path.starts_with("/v1") { "POST" } else { "PUT" };
        connection.request(method, path, &headers, None);
        connection.send(b"half");
        let answer = connection.response().has(408);
        assert!(answer.text().contains("brought nothing for 1 seconds"), "{}", answer.text());
        connection.until_hung_up();
    }
    let mut slow = daemon.http();
    let length = 1 << 20;
    slow.request("PUT", S, &[("content-length", &length.to_string())], None);
    let (begun, mut sent) = (Instant::now(), 0);
    eventually("the body takes longer than a stall may", || {
        slow.send(b"x");
        sent += 1;
        begun.elapsed() > Duration::from_millis(1200)
    });
    slow.send(&vec![b'x'; length - sent]);
    let answer = slow.response();
    assert!((200..300).contains(&answer.status), "what comes slowly comes: {answer:?}");
}

#[test]
fn a_live_body_and_a_live_reader_may_be_silent_for_longer_than_anything_else() {
    let daemon = Daemon::with_http_config(
        "[limits]\nbody_stall_time = \"1s\"\nheader_time = \"1s\"\nidle_time = \"1s\"\n",
    );
    let mut writer = daemon.http();
    writer.begin("PUT", S, &[]);
    writer.chunk(b"before");
    eventually("it is there", || daemon.head(S) == 6);
    let mut reader = daemon.http();
    reader.request("GET", S, &[], None);
    let mut answer = reader.head().unwrap().has(200);
    assert_eq!(reader.pieces(6), b"before");
    everything_else_is_given_up(&daemon, 4);
    writer.chunk(b"after").end_chunks();
    let written = writer.response();
    assert!((200..300).contains(&written.status), "{written:?}");
    assert_eq!(reader.pieces(5), b"after");
    daemon.close(S);
    reader.rest(&mut answer);
    assert!(answer.whole);
}

#[test]
fn one_connection_too_many_is_503_and_the_others_go_on() {
    let daemon = Daemon::with_http_config("[limits]\nmax_connections = 4\nmax_connections_per_address = 4\n");
    let mut held = Vec::new();
    // Connections of the start may not be forgotten yet, so some of these may be refused.
    eventually("four are held", || {
        let mut connection = daemon.http();
        connection.request("GET", "/healthz", &[], None);
        if connection.response().status == 200 {
            held.push(connection);
        }
        held.len() == 4
    });
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let refused = daemon.curl([version, "-w", "%{http_code}"], "/healthz").run().exits(0);
        assert!(refused.text().ends_with("503"), "{}", refused.text());
        assert!(refused.text().contains("limits.max_connections"), "{}", refused.text());
    }
    let mut refused = daemon.http();
    refused.request("GET", "/healthz", &[], None);
    let answer = refused.response().has(503);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("retry-after").is_some());
    answer.refuses("too_many_connections");
    assert!(refused.until_hung_up().is_empty());
    // The socket shares the limit.
    daemon.pfs(["ls", "/"]).run().exits(1).says("connections");
    for connection in &mut held {
        connection.request("GET", "/healthz", &[], None);
        connection.response().has(200);
    }
    held.clear();
    eventually("there is room again", || daemon.get("/healthz").status == 200);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let daemon =
        Daemon::with_http_config("[limits]\nmax_connections = 100\nmax_connections_per_address = 3\n");
    let mut held = Vec::new();
    eventually("three are held", || {
        let mut connection = daemon.http();
        connection.request("GET", "/healthz", &[], None);
        if connection.response().status == 200 {
            held.push(connection);
        }
        held.len() == 3
    });
    daemon.get("/healthz").has(429).refuses("too_many_connections");
    let elsewhere = daemon.curl(["-f", "--interface", "127.0.0.9"], "/healthz").run();
    elsewhere.exits(0);
    daemon.pfs(["ls", "/"]).run().exits(0);
    held.clear();
    eventually("there is room again", || daemon.get("/healthz").status == 200);
}

#[test]
fn a_flood_of_connections_beyond_the_limit_leaves_the_daemon_alive() {
    let daemon = Daemon::with_http_config("[limits]\nmax_connections_per_address = 2\n");
    let flood: Vec<HttpConnection> = (0..300).map(|_| daemon.http()).collect();
    daemon.pfs(["ls", "/"]).run().exits(0);
    drop(flood);
    eventually("there is room again", || {
        let mut connection = daemon.http();
        connection.request("GET", "/healthz", &[], None);
        connection.head().is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn readers_that_do_not_read_cost_a_bounded_buffer_each() {
    const READERS: usize = 20;
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"32MB\"\nchannel_buffer_size = \"32MB\"\n",
    );
    daemon.create(S);
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut reader = daemon.http();
        reader.request("GET", S, &[], None);
        reader.head().unwrap().has(200);
        stalled.push(reader);
    }
    // The ring is touched, so that only what comes later counts.
    daemon.pfs(["write", "--stream", S]).stdin(noise(1, 40 << 20)).run().exits(0);
    let before = daemon.memory();
    daemon.pfs(["write", "--stream", S]).stdin(noise(2, 40 << 20)).run().exits(0);
    daemon.get("/healthz").has(200);
    let each = daemon.memory().saturating_sub(before) / READERS as u64;
    assert!(each < 512 << 10, "{each} bytes for each reader that does not read");
    drop(stalled);
}

#[test]
fn a_daemon_without_descriptors_for_more_connections_pauses_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let command = format!(
        "ulimit -n 48; exec {} --http 127.0.0.1:0 --socket {}",
        harness::binary("pfsd").display(),
        folder.path().join("s").display()
    );
    let mut daemon = Pfs::new("sh").args(["-c", &command]).spawn();
    let mut address = None;
    eventually("it serves", || {
        let log = daemon.stderr();
        address = log.lines().find_map(|line| line.split_once("serving HTTP address=")?.1.parse().ok());
        address.is_some()
    });
    let held: Vec<HttpConnection> = (0..60).map(|_| HttpConnection::connect(address.unwrap())).collect();
    eventually("it has no descriptor left", || daemon.stderr().contains("cannot accept an HTTP connection"));
    assert!(daemon.stderr().matches("cannot accept").count() < 1000, "it does not pause");
    drop(held);
    let mut connection = HttpConnection::connect(address.unwrap());
    connection.request("GET", "/healthz", &[], None);
    connection.response().has(200);
    assert!(daemon.runs());
}
