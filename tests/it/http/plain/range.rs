//! Range requests: a part of the bytes in the ring buffer.

use harness::{Daemon, HttpResponse};

use super::{S, head_reaches};

#[track_caller]
fn range(daemon: &Daemon, range: &str) -> HttpResponse {
    let mut connection = daemon.http();
    connection.request("GET", S, &[("range", range)], None);
    connection.response()
}

#[test]
fn a_range_returns_the_part_that_the_ring_holds() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"0123").has(201);
    daemon.ask("PUT", S, [], b"456789").has(200);
    for (asked, told, expected) in [
        ("bytes=0-9", "bytes 0-9/*", "0123456789"),
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
        assert_eq!(
            part.header("content-length"),
            Some(expected.len().to_string().as_str()),
            "{asked}"
        );
    }
    daemon.close(S);
    assert_eq!(range(&daemon, "bytes=0-").has(206).header("content-range"), Some("bytes 0-9/10"));
    assert_eq!(range(&daemon, "bytes=7-").has(206).header("content-range"), Some("bytes 7-9/10"));
    let curl = daemon.curl(["-f", "-r", "-3"], S).run().exits(0);
    assert_eq!(curl.stdout, b"789");
}

/// Players, browsers and recorders first send `bytes=0-`: they want all bytes and want to know
/// whether they can seek.
#[test]
fn a_range_from_the_first_byte_follows_a_live_stream() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 1000, 1000);
    for (round, query) in
        ["", "?until=writers-gone", "?from=oldest", "?tail=1000B&slow=block", "?from=0"]
            .into_iter()
            .enumerate()
    {
        if round == 3 {
            // From here on offset 0 is no longer in the ring buffer.
            for _ in 0..10 {
                daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
            }
        }
        let begun = daemon.head(S) + 7;
        let mut writer = daemon.http();
        writer.begin("PUT", S, &[]);
        writer.chunk(b"history");
        head_reaches(&daemon, begun);
        let query = if round == 4 {
            format!("?from={}", daemon.stat_number(S, "tail"))
        } else {
            query.to_owned()
        };
        let mut player = daemon.http();
        player.request("GET", &format!("{S}{query}"), &[("range", "bytes=0-")], None);
        let head = player.head().expect("an answer").has(200);
        assert_eq!(
            (head.header("accept-ranges"), head.header("content-range")),
            (None, None),
            "{query}"
        );
        let before = begun - head.header("pfs-start").unwrap().parse::<u64>().unwrap();
        assert!(player.pieces(before as usize).ends_with(b"history"), "{query}");
        writer.chunk(b"live");
        assert_eq!(player.pieces(4), b"live", "{query}");
        writer.end_chunks();
        writer.response().has(200);
    }
}

#[test]
fn a_range_from_a_lost_first_byte_of_a_closed_stream_returns_the_rest() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 1000, 1000);
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    daemon.ask("POST", "/streamfs/s?close", [], b"").has(200);
    let tail = daemon.stat_number(S, "tail");
    let left = range(&daemon, "bytes=0-").has(200);
    assert!(
        left.whole && left.header("pfs-start").unwrap().parse::<u64>().unwrap() >= tail && tail > 0
    );
    assert_eq!(
        range(&daemon, "bytes=4500-").has(206).header("content-range"),
        Some("bytes 4500-4999/5000")
    );
}

#[test]
fn a_range_that_begins_before_tail_or_beyond_head_is_410_and_a_range_at_head_is_416() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 1000, 1000);
    for asked in ["bytes=-1", "bytes=0-9"] {
        range(&daemon, asked).has(416).refuses("not_held");
    }
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    let tail = daemon.stat_number(S, "tail");
    for (asked, status) in [
        ("bytes=0-5000", 410),
        ("bytes=1-", 410),
        ("bytes=5001-", 410),
        ("bytes=9999-10000", 410),
        ("bytes=5000-", 416),
        ("bytes=5000-6000", 416),
        ("bytes=-0", 416),
    ] {
        let refused = range(&daemon, asked).has(status);
        let message = refused.refuses("not_held");
        assert!(message.contains(&tail.to_string()) && message.contains("5000"), "{message}");
        let told = (status == 416).then_some("bytes */5000");
        assert_eq!(refused.header("content-range"), told, "{asked}");
        assert_eq!(refused.header("pfs-tail"), Some(tail.to_string().as_str()));
    }
    let part = range(&daemon, "bytes=-4000").has(206);
    assert_eq!(part.body.len() as u64, 5000 - tail, "the end of what there is");
}

#[test]
fn curl_that_resumes_after_a_loss_fails() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 1000, 1000);
    let begun = daemon.dir().join("begun");
    std::fs::write(&begun, [b'x'; 100]).unwrap();
    for _ in 0..10 {
        daemon.ask("PUT", S, [], &[b'x'; 500]).has(200);
    }
    let file = begun.to_str().unwrap();
    daemon.curl(["-C", "-", "-o", file], S).run().exits(33);
    assert_eq!(std::fs::metadata(&begun).unwrap().len(), 100);
}

#[test]
fn an_invalid_range_is_refused_and_other_units_are_ignored() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/streamfs/s?close", [], b"0123456789").has(201);
    for asked in ["bytes=5-2", "bytes=a-", "bytes=0-1,3-4", "bytes"] {
        assert!(
            range(&daemon, asked).has(400).refuses("bad_option").contains("bytes=100-"),
            "{asked}"
        );
    }
    assert_eq!(range(&daemon, "chunks=1-2").has(200).text(), "0123456789");
    let mut both = daemon.http();
    both.request("GET", "/streamfs/s?from=3&until=closed", &[("range", "bytes=1-")], None);
    let part = both.response().has(206);
    assert_eq!((part.header("content-range"), part.text()), (Some("bytes 1-9/10"), "123456789"));
}
