//! Subset of the AGFS API at `/api/v1` that its SDK does not exercise. `scripts/python-clients`
//! tests the rest with the SDK.

use harness::{Daemon, eventually};
use serde_json::json;

const FILE: &str = "/api/v1/files?path=/streamfs/s";

#[track_caller]
fn says(daemon: &Daemon, method: &str, path: &str, status: u16, part: &str) {
    let answer = daemon.ask(method, path, [], b"").has(status);
    let error = answer.json()["error"].as_str().expect("a message").to_owned();
    assert!(error.contains(part), "{method} {path}: nothing of {part:?} in {error:?}");
}

#[test]
fn each_error_has_the_status_that_says_whose_fault_it_is() {
    let daemon = Daemon::with_http();
    daemon.ask("POST", FILE, [], b"").has(201);
    for (method, path, status, part) in [
        ("GET", FILE, 400, "use stream mode"),
        ("POST", FILE, 409, "exists already"),
        ("GET", "/api/v1/files?path=/streamfs/none", 404, "no stream"),
        ("GET", "/api/v1/files?path=/streamfs/none&stream=true&until=caught-up", 404, "no stream"),
        ("DELETE", "/api/v1/files?path=/streamfs/none", 404, "no stream"),
        ("GET", "/api/v1/stat?path=/streamfs/none", 404, "no stream"),
        ("GET", "/api/v1/directories?path=/streamfs/none", 404, "no stream"),
        ("GET", "/api/v1/directories?path=/streamfs/s", 400, "not a directory"),
        ("GET", "/api/v1/files?path=/streamfs", 400, "is a directory"),
        ("PUT", "/api/v1/files?path=/streamfs/README", 409, "document"),
        ("PUT", "/api/v1/files?path=/other/s", 404, "outside the mount"),
        ("PUT", "/api/v1/files?path=streamfs/s", 400, "path is invalid"),
        ("PUT", "/api/v1/files?path=", 400, "path parameter is required"),
        ("GET", "/api/v1/files", 400, "path parameter is required"),
        ("GET", "/api/v1/files?path=/streamfs/README&offset=x", 400, "invalid offset"),
        ("GET", "/api/v1/files?path=/streamfs/s&stream=true&until=never", 400, "caught-up"),
        ("POST", "/api/v1/directories?path=/streamfs/d", 405, "appear and disappear"),
        ("PATCH", FILE, 405, "is not supported"),
        ("POST", "/api/v1/rename?path=/streamfs/s", 404, "health, files, stat and directories"),
    ] {
        says(&daemon, method, path, status, part);
    }
    assert_eq!(daemon.streams(), ["/streamfs/s"]);
}

#[test]
fn a_body_that_breaks_off_is_not_a_write() {
    let daemon = Daemon::with_http();
    let mut follower = daemon.http();
    follower.request("GET", &format!("{FILE}&stream=true"), &[], None);
    assert_eq!(follower.head().unwrap().status, 200, "it begins before there is a stream");
    let mut writer = daemon.http();
    writer.begin("PUT", FILE, &[]);
    writer.chunk(b"some");
    assert_eq!(follower.pieces(4), b"some");
    drop(writer);
    eventually("the writer counts as dead", || {
        daemon.stat_number("/streamfs/s", "writers_died") == 1
    });
    daemon.ask("PUT", FILE, [], b"more").has(200);
    assert_eq!(follower.pieces(4), b"more", "which is not the end of the stream");
}

#[test]
fn a_silent_write_is_answered_when_its_stream_is_closed_or_removed() {
    for (end, status, part) in [("close", 409, "is closed"), ("rm", 410, "was removed")] {
        let daemon = Daemon::with_http();
        let mut writer = daemon.http();
        writer.begin("PUT", FILE, &[]);
        writer.chunk(b"some");
        eventually("it is appended", || daemon.head("/streamfs/s") == 4);
        daemon.pfs([end, "/streamfs/s"]).run().exits(0);
        let error =
            writer.response().has(status).json()["error"].as_str().expect("a message").to_owned();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_request_that_is_refused_does_not_disturb_the_one_after_it() {
    let daemon = Daemon::with_http();
    for _ in 0..20 {
        let mut connection = daemon.http();
        // Like the SDK, which sends the body after the head.
        connection
            .send(b"POST /api/v1/rename HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n");
        let refused = connection.response().has(404);
        connection.send(b"body");
        if refused.header("connection") != Some("close") {
            connection.request("GET", "/api/v1/health", &[], None);
            connection.response().has(200);
        }
    }
}

#[test]
fn the_log_names_each_removed_stream_and_no_other() {
    let daemon = Daemon::with_http();
    for name in ["a", "a/b", "a/c", "d"] {
        daemon.create(&format!("/streamfs/{name}"));
    }
    let remove =
        |path: &str| daemon.ask("DELETE", &format!("/api/v1/files?path=/streamfs/{path}"), [], b"");
    remove("a&recursive=true").has(200);
    remove("a&recursive=true").has(404);
    remove("d").has(200);
    remove("d").has(404);
    let log = daemon.log();
    let removed: Vec<_> = log.lines().filter(|line| line.contains("stream removed")).collect();
    let told =
        |name: &str| removed.iter().filter(|line| line.contains(&format!("\"{name}\""))).count();
    assert_eq!(
        ["/streamfs/a", "/streamfs/a/b", "/streamfs/a/c", "/streamfs/d"].map(told),
        [1; 4],
        "{removed:?}"
    );
    assert_eq!(removed.len(), 4);
}

#[test]
fn a_token_for_some_streams_lists_and_removes_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "some-some-some-some-some-some read,write /streamfs/mine\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Daemon::with_http_config(&format!("[auth]\ntoken_file = {file:?}\n"));
    let headers = [("authorization", "Bearer some-some-some-some-some-some")];
    let ask =
        |method: &str, path: &str| daemon.ask(method, &format!("/api/v1/{path}"), headers, b"");
    daemon.create("/streamfs/yours");
    ask("PUT", "files?path=/streamfs/mine/a").has(200);
    for (method, path) in [
        ("GET", "directories?path=/streamfs"),
        ("GET", "directories"),
        ("GET", "stat?path=/streamfs/yours"),
        ("GET", "files?path=/streamfs/yours&stream=true"),
        ("GET", "files?path=/streamfs/not-yet&stream=true"),
        ("PUT", "files?path=/streamfs/yours"),
        ("POST", "files?path=/streamfs/other"),
        ("DELETE", "files?path=/streamfs/yours"),
        ("DELETE", "files?path=/streamfs&recursive=true"),
        ("DELETE", "directories?path=/&recursive=true"),
    ] {
        assert_eq!(ask(method, path).status, 403, "{method} {path}");
    }
    let listed = ask("GET", "directories?path=/streamfs/mine").has(200).json();
    assert_eq!((&listed["files"][0]["name"], &listed["files"][1]), (&json!("a"), &json!(null)));
    ask("DELETE", "files?path=/streamfs/mine&recursive=true").has(200);
    assert_eq!(daemon.streams(), ["/streamfs/yours"]);
}
