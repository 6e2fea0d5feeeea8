//! `pfs --url` through proxies that buffer, limit or refuse what writers need: the message names
//! the proxy setting that is responsible. `tests/it/proxies/` tests real proxies.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use harness::{Daemon, Pfs, Proxy, Signal, eventually, noise};

use super::{S, pfs_at};

/// Builds a `pfs` command line for a proxy that answers each request with this head and an
/// HTML body.
#[track_caller]
fn answered<const N: usize>(head: &str, args: [&str; N]) -> Pfs {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = "<html><body><h1>Sorry</h1></body></html>";
    let answer = format!(
        "HTTP/1.1 {head}\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            // The proxy reads only some of the request. The write fails if the client is already
            // gone at the end of the test.
            let _ = client.read(&mut [0; 4096]).and_then(|_| client.write_all(answer.as_bytes()));
        }
    });
    pfs_at(&url, args)
}

#[test]
fn the_answer_of_a_proxy_is_reported_with_its_name_and_the_responsible_setting() {
    for (head, code, parts) in [
        (
            "408 Request Timeout",
            1,
            &["the server answers 408", "client_body_timeout", "timeout client"][..],
        ),
        ("411 Length Required", 1, &["411", "chunked"]),
        (
            "413 Too Large\r\nserver: nginx/1.22.1",
            1,
            &["nginx/1.22.1 answers 413", "client_max_body_size 0"],
        ),
        (
            "502 Bad Gateway\r\nserver: nginx",
            5,
            &["nginx answers 502", "does not reach the daemon"],
        ),
        ("503 Service Unavailable", 5, &["the server answers 503", "no daemon that is up"]),
        (
            "504 Gateway Timeout\r\nvia: 1.1 first, 1.1 varnish",
            5,
            &["varnish answers 504", "proxy_read_timeout"],
        ),
        ("418 I'm a teapot\r\nserver: pot", 1, &["pot answers 418"]),
    ] {
        for args in [["ls", "--json"], ["cat", S]] {
            let run = answered(head, args).run().exits(code);
            for part in parts {
                assert!(run.stderr.contains(part), "nothing of {part:?} in {}", run.stderr);
            }
            assert!(
                !run.stderr.contains("went away") && !run.stderr.contains("html"),
                "{}",
                run.stderr
            );
        }
    }
}

#[test]
fn a_proxy_that_cuts_a_large_request_is_named_with_its_setting_and_the_arrived_bytes() {
    let daemon = Daemon::with_http();
    let proxy = Proxy::that_limits_requests(daemon.http_address(), 1024 * 1024, "nginx/1.22.1");
    let run = pfs_at(&proxy.url(), ["write", "--stream", S])
        .stdin(noise(1, 3 * 1024 * 1024))
        .run()
        .exits(5);
    let run = run.says("the connection broke").says("nginx/1.22.1").says("client_max_body_size");
    assert!(!run.stderr.contains("went away"), "{}", run.stderr);
    let told = run
        .stderr
        .split("; ")
        .find_map(|part| part.strip_suffix(" bytes of the input were appended before\n"));
    let told: u64 = told.expect("how much arrived").parse().unwrap();
    assert!(
        told <= daemon.head(S),
        "{told} bytes are acknowledged and {} are there",
        daemon.head(S)
    );
}

#[test]
fn every_command_works_through_a_proxy_that_answers_only_at_the_end_of_a_request() {
    let daemon = Daemon::with_http();
    let proxy = Proxy::half_duplex(daemon.http_address());
    let at = |args: &[&str]| pfs_at(&proxy.url(), []).args(args);
    at(&["create", "/streamfs/made"]).run().exits(0).quietly();
    at(&["stat", "/streamfs/made"]).run().exits(0).quietly();

    // Chunks arrive as they are cut, before the input ends.
    let mut lines = at(&["write", "--lines", "--close", S]).stdin_pipe().spawn();
    let mut one_by_one = at(&["write", "--stream", "/streamfs/two"]).stdin_pipe().spawn();
    lines.send(b"one\ntwo\nthr");
    eventually("whole lines arrive", || daemon.head(S) == 8);
    for (head, byte) in [(1, b"a"), (2, b"b")] {
        one_by_one.send(byte);
        eventually("each read arrives", || daemon.head("/streamfs/two") == head);
    }
    lines.send(b"ee\n");
    lines.finish().exits(0).says("nothing is acknowledged");
    one_by_one.finish().exits(0);
    assert_eq!(
        (
            daemon.stat_number("/streamfs/two", "chunks"),
            daemon.stat_number("/streamfs/two", "writers_died")
        ),
        (2, 0)
    );

    let read = at(&["cat", "--stream", S]).run().exits(0).quietly();
    assert_eq!(read.text(), "one\ntwo\nthree\n");
    // A stream is replaced only once.
    daemon.append("/streamfs/old", b"old");
    let mut waiting =
        daemon.attached("/streamfs/old", daemon.pfs(["cat", "--stream", "/streamfs/old"]));
    eventually("it has read", || waiting.stdout_len() == 3);
    at(&["write", "--replace", "/streamfs/old"]).stdin("anew").run().exits(0);
    assert!(
        !waiting.runs() || {
            waiting.finish().exits(7);
            true
        }
    );
    assert_eq!(
        (daemon.head("/streamfs/old"), daemon.stat_number("/streamfs/old", "writers_finished")),
        (4, 1)
    );
    // A chunk that the stream refuses leaves nothing behind.
    daemon.create_with_buffers("/streamfs/small", 1000, 1000);
    at(&["write", "/streamfs/small"]).stdin(vec![b'x'; 1001]).run().exits(1).says("1000 bytes");
    assert_eq!(
        (daemon.head("/streamfs/small"), daemon.stat_number("/streamfs/small", "writers_died")),
        (0, 0)
    );

    at(&["close", "/streamfs/two"]).run().exits(0).quietly();
    at(&["rm", "/streamfs/two"]).run().exits(0).quietly();
    assert_eq!(at(&["ls"]).run().exits(0).text().lines().count(), 4);
}

#[test]
fn a_writer_through_such_a_proxy_never_reports_a_partial_append_as_complete() {
    let mut daemon = Daemon::with_http();
    let proxy = Proxy::half_duplex(daemon.http_address());
    let write = |stream: &str| {
        let mut writer = pfs_at(&proxy.url(), ["write", "--stream", stream]).stdin_pipe().spawn();
        writer.send(b"so far");
        eventually("it arrives", || daemon.head(stream) == 6);
        writer
    };
    let [closed, removed, mut killed] = ["/streamfs/closed", "/streamfs/removed", S].map(write);
    daemon.close("/streamfs/closed");
    closed.finish().exits(9).says("is closed").says("not known");
    daemon.remove("/streamfs/removed");
    removed.finish().exits(1).says("was removed").says("not known");
    // A writer that dies has not finished.
    let reader = daemon.attached(S, daemon.pfs(["cat", "--stream", "--until", "writers-gone", S]));
    killed.signal(Signal::KILL);
    assert!(
        !killed.runs() || {
            killed.finish().exits(137);
            true
        }
    );
    reader.finish().exits(8);

    // A failed command counts as a writer that died.
    let fails = pfs_at(
        &proxy.url(),
        ["write", "--close", "/streamfs/fails", "--", "sh", "-c", "echo x; exit 3"],
    );
    fails.run().exits(3);
    assert_eq!(daemon.stat("/streamfs/fails").unwrap()["state"], "failed");

    let mut orphan = pfs_at(&proxy.url(), ["write", "--stream", S]).stdin_pipe().spawn();
    orphan.send(b"more");
    eventually("it arrives", || daemon.head(S) == 10);
    daemon.kill9();
    orphan.finish().exits(5).says("the connection broke");
}

#[test]
fn a_proxy_that_buffers_requests_is_recognized_and_named_with_its_setting() {
    let daemon = Daemon::with_http();
    let proxy = Proxy::that_gathers_requests(daemon.http_address(), "nginx/1.22.1");
    let run = pfs_at(&proxy.url(), ["write", "--stream", S]).stdin("x").run().exits(1);
    run.says("proxy_request_buffering off").says(&proxy.url());
    assert!(daemon.streams().is_empty(), "the writer left something");
}

#[test]
fn a_daemon_that_does_not_know_frames_in_a_header_gets_them_in_a_body() {
    let daemon = Daemon::with_http();
    let proxy = Proxy::without_header(daemon.http_address(), "pfs-frames");
    pfs_at(&proxy.url(), ["write", "--close", S]).stdin("all").run().exits(0).quietly();
    let read = pfs_at(&proxy.url(), ["cat", "--stream", S]).run().exits(0).quietly();
    assert_eq!(read.text(), "all");
    pfs_at(&proxy.url(), ["rm", S]).run().exits(0).quietly();
    assert!(daemon.streams().is_empty());
}
