//! Everything about a stream except its bytes: stats, listings, documents, headers, names.

use harness::Daemon;
use serde_json::Value;

use super::{S, reading};

#[test]
fn head_returns_the_stats() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [("content-type", "text/csv")], b"a,b\n").has(201);
    let _reader = reading(&daemon, S);
    let mut writer = daemon.http();
    writer.begin("PUT", S, &[]);
    writer.chunk(b"c,d\n");
    super::head_reaches(&daemon, 8);
    let mut connection = daemon.http();
    connection.request("HEAD", S, &[], None);
    let head = connection.response().has(200);
    for (name, value) in [
        ("pfs-state", "open"),
        ("pfs-head", "8"),
        ("pfs-tail", "0"),
        ("pfs-readers", "1"),
        ("pfs-writers", "1"),
        ("pfs-writers-died", "0"),
        ("pfs-lost-bytes", "0"),
        ("pfs-ring-buffer-size", "6291456"),
        ("pfs-channel-buffer-size", "6291456"),
        ("content-type", "text/csv"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(head.header(name), Some(value), "{name}");
    }
    let stat = daemon.stat(S).unwrap();
    assert_eq!(head.header("pfs-created"), stat["created"].as_str());
    assert_eq!(head.header("pfs-last-append"), stat["last_append"].as_str());
    let curl = daemon.curl(["-f", "-I"], S).run().exits(0);
    assert!(curl.text().contains("pfs-head: 8"), "{}", curl.text());
}

#[test]
fn a_listing_and_a_stat_use_the_field_names_of_pfs() {
    let daemon = Daemon::with_http();
    assert_eq!(daemon.get("/streamfs/").has(200).json(), serde_json::json!([]));
    for path in ["/streamfs/a", "/streamfs/lab/b", "/streamfs/lab/c"] {
        daemon.ask("PUT", path, [], b"abc").has(201);
    }
    let lines = |path: &str| -> Vec<Value> {
        let run = daemon.pfs(["ls", "--json", path]).run().exits(0);
        run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (url, path, count) in [
        ("/streamfs/", "/streamfs", 3),
        ("/streamfs", "/streamfs", 3),
        ("/streamfs/lab/", "/streamfs/lab", 2),
    ] {
        let listed = daemon.get(url).has(200);
        assert_eq!(listed.header("content-type"), Some("application/json"));
        let listed = listed.json();
        assert_eq!(listed.as_array().unwrap().len(), count, "{url}");
        assert_eq!(listed, Value::from(lines(path)), "{url}");
    }
    daemon.get("/streamfs/nothing/").has(404).refuses("no_such_stream");
    let mut stat = daemon.get("/streamfs/a?stat").has(200).json();
    let mut printed = daemon.stat("/streamfs/a").unwrap();
    // The rate covers the last seconds, so it differs between the two requests.
    for stats in [&mut stat, &mut printed] {
        stats["rate"] = Value::Null;
    }
    assert_eq!(stat, printed);
}

#[test]
fn the_document_exists_and_no_stream_can_replace_it() {
    let daemon = Daemon::with_http();
    let document = daemon.get("/streamfs/README").has(200);
    assert!(document.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(document.text(), daemon.pfs(["cat", "/streamfs/README"]).run().exits(0).text());
    let refused = daemon.ask("PUT", "/streamfs/README", [], b"x").has(405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_page_written_into_a_stream_runs_in_no_site_s_origin() {
    let daemon = Daemon::with_http();
    let page = b"<script>fetch('/streamfs/s', {method: 'DELETE'})</script>";
    daemon.ask("PUT", "/streamfs/s?close", [("content-type", "text/html")], page).has(201);
    let got = daemon.get(S).has(200);
    for (name, value) in [
        ("content-type", "text/html"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(got.header(name), Some(value));
    }
    let untyped = daemon.ask("PUT", "/streamfs/t?close", [], page).has(201);
    assert_eq!(untyped.header("pfs-offset"), Some(page.len().to_string().as_str()));
    assert_eq!(daemon.get("/streamfs/t").header("content-type"), Some("application/octet-stream"));
}

#[test]
fn delete_removes_a_stream_and_reports_a_missing_one() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"abc").has(201);
    daemon.ask("DELETE", S, [], b"").has(204);
    assert!(daemon.streams().is_empty());
    daemon.ask("DELETE", S, [], b"").has(404).refuses("no_such_stream");
}

#[test]
fn names_are_percent_encoded_like_any_url() {
    let daemon = Daemon::with_http();
    let name = "/streamfs/späße ☂/a?b#c";
    daemon.ask("PUT", "/streamfs/sp%C3%A4%c3%9fe%20%E2%98%82/a%3Fb%23c", [], b"abc").has(201);
    assert_eq!(daemon.streams(), [name]);
    let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", name]).run().exits(0);
    assert_eq!(read.stdout, b"abc");
}
