//! Trailers: they mark a complete response, for clients behind a proxy that also ends a broken
//! response properly.

use harness::{Daemon, HttpConnection, HttpResponse, eventually};

use super::S;

const TE: (&str, &str) = ("te", "trailers");

/// Starts a reader and waits until it has three bytes.
#[track_caller]
fn following(
    daemon: &Daemon,
    path: &str,
    headers: &[(&str, &str)],
) -> (HttpConnection, HttpResponse) {
    let mut connection = daemon.http();
    connection.request("GET", path, headers, None);
    let mut head = connection.head().unwrap().has(200);
    head.body = connection.pieces(3);
    (connection, head)
}

fn trailers(response: &HttpResponse) -> Vec<(&str, &str)> {
    response.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn a_complete_response_says_how_and_where_the_stream_ended() {
    let daemon = Daemon::with_http();
    let agfs = format!("/api/v1/files?path={S}&stream=true");
    for (path, end) in [
        (S, "closed"),
        (&format!("{S}?until=writers-gone"), "writers-gone"),
        (&agfs, "closed"),
        (&format!("{agfs}&until=caught-up"), "caught-up"),
    ] {
        daemon.append(S, b"abc");
        let mut writer = daemon.http();
        writer.begin("PUT", &format!("{S}?close={}", end == "closed"), &[]);
        writer.chunk(b"def");
        eventually("the writer is there", || daemon.head(S) == 6);
        let (mut reader, mut response) = following(&daemon, path, &[TE]);
        assert_eq!(response.header("trailer"), Some("pfs-end, pfs-offset"), "{path}");
        writer.end_chunks().response().has(200);
        reader.rest(&mut response);
        assert_eq!(response.text(), "abcdef");
        assert_eq!(trailers(&response), [("pfs-end", end), ("pfs-offset", "6")], "{path}");
        daemon.remove(S);
    }
    eventually("all of them are logged", || daemon.log().matches("end=\"whole\"").count() >= 8);
    assert!(!daemon.log().contains("given up"), "{}", daemon.log());
}

#[test]
fn a_response_that_breaks_has_no_trailers() {
    let daemon = Daemon::with_http();
    for end in ["rm", "close --failed"] {
        daemon.append(S, b"abc");
        let (mut reader, mut response) = following(&daemon, S, &[TE]);
        daemon.pfs([]).args(end.split(' ')).arg(S).run().exits(0);
        reader.rest(&mut response);
        assert_eq!((response.whole, trailers(&response)), (false, vec![]), "{end}");
        let _ = daemon.pfs(["rm", "-f", S]).run();
    }
}

#[test]
fn trailers_are_sent_only_if_accepted_and_if_the_response_has_no_length() {
    let daemon = Daemon::with_http();
    daemon.append(S, b"abc");
    let (mut reader, mut response) = following(&daemon, S, &[]);
    daemon.close(S);
    reader.rest(&mut response);
    assert_eq!(
        (response.whole, response.header("trailer"), trailers(&response)),
        (true, None, vec![])
    );

    let closed = daemon.ask("GET", S, [TE], b"").has(200);
    assert_eq!((closed.header("content-length"), closed.header("trailer")), (Some("3"), None));
}

#[test]
fn curl_shows_trailers_over_either_version() {
    let daemon = Daemon::with_http();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (end, told) in [("close", "closed"), ("rm", "")] {
            daemon.append(S, b"abc");
            let head = daemon.dir().join("head");
            let reader =
                daemon.curl([version, "-H", "TE: trailers"], S).arg("-D").arg(&head).spawn();
            eventually("it reads", || reader.stdout() == b"abc");
            daemon.pfs([end, S]).run().exits(0);
            reader.finish();
            let head = std::fs::read_to_string(head).unwrap();
            let found =
                head.lines().find_map(|line| line.strip_prefix("pfs-end:")).unwrap_or_default();
            assert_eq!(found.trim(), told, "{version}: {head}");
            let _ = daemon.pfs(["rm", "-f", S]).run();
        }
    }
}
