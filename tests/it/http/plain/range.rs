//! Range: a part of what the ring holds.

use harness::{Daemon, HttpResponse};

use super::S;

#[track_caller]
fn range(daemon: &Daemon, range: &str) -> HttpResponse {
    let mut connection = daemon.http();
    connection.request("GET", S, &[("range", range)], None);
    connection.response()
}

#[test]
fn a_range_is_what_the_ring_holds_of_it() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"0123").has(201);
    daemon.ask("PUT", S, [], b"456789").has(200);
    for (asked, told, expected) in [
        ("bytes=0-", "bytes 0-9/*", "0123456789"),
        ("bytes=7-", "bytes 7-9/*", "789"),
        ("bytes=2-5", "bytes 2-5/*", "2345"),
        ("bytes=5-5", "bytes 5-5/*", "5"),
        ("bytes=8-1000", "bytes 8-9/*", "89"),
        ("bytes=-3", "bytes 7-9/*", "789"),
        ("bytes=-1000", "bytes 0-9/*", "0123456789"),
    ] {
        let part = range(&daemon, asked).has(206);
        assert_eq!(
            (part.header("content-range"), part.text(), part.whole),
            (Some(told), expected, true),
            "{asked}"
        );
        assert_eq!(part.header("content-length"), Some(expected.len().to_string().as_str()), "{asked}");
    }
    daemon.pfs(["close", S]).run().exits(0);
    assert_eq!(range(&daemon, "bytes=7-").has(206).header("content-range"), Some("bytes 7-9/10"));
    let curl = daemon.curl(["-f", "-r", "-3"], S).run().exits(0);
    assert_eq!(curl.stdout, b"789");
}

#[test]
fn a_range_that_the_ring_does_not_hold_is_416_with_the_range_that_there_is() {
    let daemon = Daemon::with_http();
    daemon.create(S, ["--ring-buffer-size", "1000B", "--channel-buffer-size", "1000B"]);
    range(&daemon, "bytes=-1").has(416).refuses("not_held");
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    let tail = daemon.figure(S, "tail");
    for asked in ["bytes=0-", "bytes=0-5000", "bytes=5000-", "bytes=9999-10000", "bytes=-0"] {
        let refused = range(&daemon, asked).has(416);
        let message = refused.refuses("not_held");
        assert!(message.contains(&tail.to_string()) && message.contains("5000"), "{message}");
        assert_eq!(refused.header("content-range"), Some("bytes */5000"));
        assert_eq!(refused.header("pfs-tail"), Some(tail.to_string().as_str()));
    }
    let part = range(&daemon, "bytes=-4000").has(206);
    assert_eq!(part.body.len() as u64, 5000 - tail, "the end of what there is");
}

#[test]
fn a_range_that_is_none_is_refused_and_other_units_are_ignored() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/streamfs/s?close", [], b"0123456789").has(201);
    for asked in ["bytes=5-2", "bytes=a-", "bytes=0-1,3-4", "bytes"] {
        assert!(range(&daemon, asked).has(400).refuses("bad_option").contains("bytes=100-"), "{asked}");
    }
    assert_eq!(range(&daemon, "chunks=1-2").has(200).text(), "0123456789");
    let mut both = daemon.http();
    both.request("GET", "/streamfs/s?from=3", &[("range", "bytes=1-")], None);
    assert!(both.response().has(400).refuses("bad_option").contains("?from"));
}
