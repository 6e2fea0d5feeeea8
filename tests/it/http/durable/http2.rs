//! Durable Streams over HTTP/2.

use harness::{Daemon, Finished, eventually};

use super::{controls, data};

/// Runs curl, which prints the HTTP version and the status after the body.
fn ask<const N: usize>(daemon: &Daemon, path: &str, args: [&str; N]) -> Finished {
    let curl =
        daemon.curl(["--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}"], path);
    curl.args(args).run().exits(0)
}

const TEXT: &str = "Content-Type: text/plain";

#[test]
fn a_stream_is_created_appended_to_read_closed_and_deleted_over_http_2() {
    let daemon = Daemon::with_http();
    let made = ask(&daemon, "/v1/stream/s", ["-X", "PUT", "-H", TEXT, "-d", "one "]);
    assert_eq!(made.text(), "\n2 201");
    let added = ask(&daemon, "/v1/stream/s", ["-H", TEXT, "-d", "two ", "-D", "-"]);
    assert!(added.text().ends_with("\n2 204"), "{}", added.text());
    let header = |name: &str| {
        added.text().lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
    };
    let next = header("stream-next-offset: ");
    assert_eq!(ask(&daemon, "/v1/stream/s?offset=-1", []).text(), "one two \n2 200");

    let live = |kind: &str| {
        daemon
            .curl(
                ["-f", "--http2-prior-knowledge"],
                &format!("/v1/stream/s?offset={next}&live={kind}"),
            )
            .spawn()
    };
    let (poll, events) = (live("long-poll"), live("sse"));
    daemon.has_readers("/streamfs/s", 2);
    assert_eq!(ask(&daemon, "/v1/stream/s", ["-H", TEXT, "-d", "three"]).text(), "\n2 204");
    assert_eq!(poll.finish().exits(0).text(), "three");
    let closed = ask(&daemon, "/v1/stream/s", ["-X", "POST", "-H", "Stream-Closed: true"]);
    assert_eq!(closed.text(), "\n2 204");
    let told = events.finish().exits(0);
    assert_eq!(data(told.text()), "three");
    assert_eq!(controls(told.text()).last().unwrap()["streamClosed"], true);

    assert_eq!(ask(&daemon, "/v1/stream/s", ["-X", "DELETE"]).text(), "\n2 204");
    assert!(ask(&daemon, "/v1/stream/s", []).text().ends_with("\n2 404"));
}

#[test]
fn a_live_reader_over_http_2_can_tell_a_removal_from_the_end() {
    let daemon = Daemon::with_http();
    ask(&daemon, "/v1/stream/s", ["-X", "PUT", "-H", TEXT, "-d", "x"]);
    let path = "/v1/stream/s?offset=-1&live=sse";
    let events = daemon.curl(["-f", "--http2-prior-knowledge"], path).spawn();
    eventually("history has come", || data(&String::from_utf8(events.stdout()).unwrap()) == "x");
    daemon.remove("/streamfs/s");
    let run = events.finish();
    assert_ne!(run.code, 0, "{}", run.text());
}
