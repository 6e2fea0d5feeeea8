//! Refusals for operators: exact counts in the metrics, and log lines with a rate limit.

use std::time::Instant;

use harness::{Daemon, Running, Signal, eventually};
use tempfile::TempDir;

const S: &str = "/streamfs/s";
const ALL: &str = "all-all-all-all-all-all";
const READER: &str = "reader-reader-reader";

/// All refusal reasons.
const REASONS: [&str; 14] = [
    "unauthenticated",
    "denied",
    "foreign_origin",
    "foreign_host",
    "handshake",
    "connections",
    "connections_per_address",
    "descriptors",
    "streams",
    "stream_memory",
    "message_memory",
    "quota",
    "too_large",
    "too_slow",
];

/// Returns the number of refusals for this reason, from the metrics.
#[track_caller]
pub(super) fn refusals(metrics: &str, reason: &str) -> usize {
    let name = format!("pfs_refusals_total{{reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// Returns the number of log lines about refusals for this reason.
pub(super) fn logged(log: &str, reason: &str) -> usize {
    lines(log, reason).len()
}

fn lines<'a>(log: &'a str, reason: &str) -> Vec<&'a str> {
    let reason = format!("reason=\"{reason}\"");
    log.lines().filter(|line| line.contains("refused: ") && line.contains(&reason)).collect()
}

/// Starts a daemon with tokens and small limits. Returns it with the folder of its token file.
fn guarded() -> (Daemon, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{ALL}\n{READER} read\n")).unwrap();
    let limits = "[limits]\nmax_streams = 2\nmax_memory = \"16MB\"\n";
    (Daemon::with_http_config(&format!("{limits}[auth]\ntoken_file = {file:?}\n")), folder)
}

fn metrics(daemon: &Daemon) -> String {
    let token = format!("Bearer {ALL}");
    daemon.ask("GET", "/metrics", [("authorization", &token)], b"").has(200).text().to_owned()
}

/// Checks that one more request was refused for this reason, and that the log has one more line,
/// with these parts.
#[track_caller]
fn one_more(daemon: &Daemon, reason: &str, before: usize, parts: &[&str]) {
    // A connection may be answered before it is counted.
    eventually("it is counted and logged", || {
        refusals(&metrics(daemon), reason) > before && logged(&daemon.log(), reason) > before
    });
    assert_eq!(refusals(&metrics(daemon), reason), before + 1, "{reason}");
    let log = daemon.log();
    let lines = lines(&log, reason);
    assert_eq!(lines.len(), before + 1, "{reason}: {log}");
    let line = lines.last().unwrap();
    assert!(line.contains("WARN"), "{line}");
    for part in parts {
        assert!(line.contains(part), "nothing of {part} in {line}");
    }
}

#[test]
fn a_refused_request_is_counted_and_logged_once_with_its_reason_and_who_asked_for_what() {
    let (daemon, folder) = guarded();
    let (all, reader) = (format!("Bearer {ALL}"), format!("Bearer {READER}"));
    let (all, reader) = (("authorization", &*all), ("authorization", &*reader));
    for reason in REASONS {
        assert_eq!(refusals(&metrics(&daemon), reason), 0, "{reason}");
    }
    let of_s = ["remote=127.0.0.1:", "path=\"/streamfs/s\""];

    daemon.get("/streamfs/s?token=secret-in-the-query").has(401);
    one_more(&daemon, "unauthenticated", 0, &of_s);
    daemon.ask("GET", S, [("authorization", "Bearer wrong-wrong-wrong-wrong")], b"").has(401);
    one_more(&daemon, "unauthenticated", 1, &of_s);
    daemon.ask("PUT", S, [reader], b"x").has(403);
    one_more(
        &daemon,
        "denied",
        0,
        &["remote=127.0.0.1:", "method=\"PUT\"", "path=\"/streamfs/s\"", "write"],
    );
    // AGFS has its own form of errors.
    daemon.ask("PUT", "/api/v1/files?path=/streamfs/s", [reader], b"x").has(403);
    one_more(&daemon, "denied", 1, &["write /streamfs/s"]);
    // The connection that carries frames is accepted, but the request on it is refused.
    let token = folder.path().join("reader");
    std::fs::write(&token, READER).unwrap();
    let write = daemon.pfs_http(["write", S]).env("PFS_TOKEN_FILE", &token).stdin("x").spawn();
    let pid = format!("pid={}", write.pid());
    write.finish().exits(1);
    one_more(&daemon, "denied", 2, &["remote=127.0.0.1:", &pid, "write /streamfs/s"]);
    daemon.ask("GET", S, [all, ("origin", "https://evil.example")], b"").has(403);
    one_more(&daemon, "foreign_origin", 0, &["https://evil.example", of_s[0], of_s[1]]);
    daemon.ask("GET", S, [all, ("host", "evil.example")], b"").has(421);
    one_more(&daemon, "foreign_host", 0, &["evil.example", of_s[0], of_s[1]]);
    daemon.ask("GET", S, [all, ("x-large", &"x".repeat(40_000))], b"").has(431);
    one_more(&daemon, "too_large", 0, &of_s);
    // The HTTP server does not even read a head of this size.
    let mut larger = daemon.http();
    larger.request("GET", S, &[("x-larger", &"x".repeat(400_000))], None);
    larger.response().has(431);
    one_more(&daemon, "too_large", 1, &of_s[..1]);
    daemon.ask("PUT", "/streamfs/large?create&reserve&ring-buffer-size=64MB", [all], b"").has(429);
    one_more(&daemon, "stream_memory", 0, &["path=\"/streamfs/large\"", "limits.max_memory"]);

    daemon.ask("PUT", "/v1/stream/s", [all, ("content-type", "text/plain")], b"").has(201);
    let mut first = daemon.http();
    first.request("POST", "/v1/stream/s", &[all, ("content-length", "1500000")], None);
    first.send(&[1; 1_400_000]);
    let arriving = "pfs_message_memory_bytes{direction=\"arriving\"} 1400000\n";
    eventually("what was sent of it is in memory", || metrics(&daemon).contains(arriving));
    daemon
        .ask("POST", "/v1/stream/s", [all, ("content-type", "text/plain")], &[2; 1_500_000])
        .has(503);
    one_more(&daemon, "message_memory", 0, &["path=\"/v1/stream/s\""]);

    daemon.create("/streamfs/2");
    daemon.ask("PUT", "/streamfs/3", [all], b"x").has(429);
    one_more(&daemon, "streams", 0, &["path=\"/streamfs/3\"", "limits.max_streams"]);
    let create = daemon.pfs(["create", "/streamfs/4"]).spawn();
    let pid = format!("pid={}", create.pid());
    create.finish().exits(1);
    one_more(&daemon, "streams", 1, &[&pid, "uid=", "cannot create /streamfs/4"]);

    daemon.ask("GET", "/streamfs/none", [all], b"").has(404);
    let counted: usize = REASONS.iter().map(|reason| refusals(&metrics(&daemon), reason)).sum();
    assert_eq!(counted, 13, "what is no refusal is not counted");
    let log = daemon.log();
    for secret in [ALL, READER, "wrong-wrong", "secret-in-the-query"] {
        assert!(!log.contains(secret), "{secret} in the log: {log}");
    }
}

#[test]
fn a_flood_of_requests_without_a_token_is_counted_exactly_and_does_not_flood_the_log() {
    const FLOOD: usize = 10_000;
    const AT_ONCE: usize = 100;
    let (daemon, _folder) = guarded();
    let (before, begun) = (daemon.log().lines().count(), Instant::now());
    let mut connection = daemon.http();
    let requests = "GET /streamfs/s HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong-wrong-wrong-wrong\r\n\r\n";
    for _ in 0..FLOOD / AT_ONCE {
        connection.send(requests.repeat(AT_ONCE).as_bytes());
        for _ in 0..AT_ONCE {
            connection.response().has(401);
        }
    }
    assert_eq!(refusals(&metrics(&daemon), "unauthenticated"), FLOOD);
    let written = daemon.log().lines().count() - before;
    // A burst of ten, one per second, and the line of the request for metrics.
    let most = 10 + usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    assert!((10..=most).contains(&written), "{written} lines, of at most {most}: {}", daemon.log());

    let told = |log: &str| {
        let one_by_one = logged(log, "unauthenticated");
        let left_out = log
            .lines()
            .filter_map(|line| line.split_once("unlogged=")?.1.trim().parse::<usize>().ok());
        one_by_one + left_out.sum::<usize>()
    };
    eventually("the log has told of all of them", || told(&daemon.log()) == FLOOD);
}

#[test]
fn omitted_log_lines_are_reported_when_the_daemon_shuts_down() {
    let (daemon, _folder) = guarded();
    let mut connection = daemon.http();
    for _ in 0..11 {
        connection.request("GET", S, &[], None);
        connection.response().has(401);
    }
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    let log = ended.exits(0).stderr;
    assert_eq!(logged(&log, "unauthenticated"), 10, "{log}");
    assert!(
        log.lines().any(|line| line.contains("further refusals") && line.ends_with("unlogged=1")),
        "{log}"
    );
}

#[test]
fn a_connection_beyond_a_limit_is_counted_and_logged_once_whatever_is_asked_on_it() {
    let daemon = Daemon::with_http_config(
        "[limits]\nmax_connections = 3\nmax_connections_per_address = 1\n",
    );
    let mut first = daemon.http();
    let mut ask = |path: &str| {
        first.request("GET", path, &[], None);
        first.response().has(200).text().to_owned()
    };
    // The daemon may still count its connections of the start-up check.
    eventually("there is one connection", || ask("/metrics").contains("pfs_connections 1\n"));
    let before = (refusals(&ask("/metrics"), "connections_per_address"), daemon.log());
    let mut second = daemon.http();
    second.request("GET", "/streamfs/", &[], None);
    second.response().has(429);
    assert!(second.until_hung_up().is_empty());
    assert_eq!(refusals(&ask("/metrics"), "connections_per_address"), before.0 + 1);
    let log = daemon.log().split_off(before.1.len());
    assert_eq!(logged(&log, "connections_per_address"), 1, "{log}");
    assert!(log.contains("remote=127.0.0.1:") && !log.contains("status=429"), "{log}");

    eventually("the refused one is forgotten", || ask("/metrics").contains("pfs_connections 1\n"));
    // Exactly as many as allowed: a further one would be refused and logged, sooner or later.
    let _held = [daemon.wire(), daemon.wire()];
    eventually("all connections are held", || ask("/metrics").contains("pfs_connections 3\n"));
    let before = (refusals(&ask("/metrics"), "connections"), daemon.log());
    let list: Running = daemon.pfs(["ls", "/"]).spawn();
    let pid = format!("pid={}", list.pid());
    list.finish().exits(1).says("connections");
    assert_eq!(refusals(&ask("/metrics"), "connections"), before.0 + 1);
    let log = daemon.log().split_off(before.1.len());
    assert_eq!(logged(&log, "connections"), 1, "{log}");
    assert!(log.contains(&pid) && log.contains("limits.max_connections"), "{log}");
}
