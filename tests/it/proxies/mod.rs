//! The real reverse proxies of Debian, configured as docs/http.md says: `scripts/proxies`.

mod behind;

use harness::{Finished, Signal, eventually, noise};

use self::behind::{Behind, Kind};

const S: &str = "/streamfs/s";

/// Generates a test from each of these functions for each proxy: `nginx::NAME`, `haproxy::NAME`
/// and `caddy::NAME`.
macro_rules! per_proxy {
    ($($name:ident),+ $(,)?) => {
        per_proxy!(@module nginx Nginx $($name)+);
        per_proxy!(@module haproxy Haproxy $($name)+);
        per_proxy!(@module caddy Caddy $($name)+);
    };
    (@module $module:ident $kind:ident $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                #[ignore = "needs a reverse proxy: scripts/proxies"]
                fn $name() {
                    super::$name(super::Kind::$kind);
                }
            )+
        }
    };
}

per_proxy!(
    every_command_does_what_it_does_without_a_proxy,
    curl_appends_follows_and_gets_events_as_they_happen,
    a_removal_and_the_end_are_told_apart,
    a_request_is_never_answered_before_it_was_read,
    a_name_that_the_daemon_does_not_know_is_refused,
    a_missing_daemon_is_reported_with_the_answer_of_the_proxy,
);

/// Checks that a writer succeeded without messages, except the one about a proxy that cannot
/// forward acknowledgements.
#[track_caller]
fn written(run: Finished, is_acknowledged: bool) {
    let run = run.exits(0);
    if is_acknowledged {
        run.quietly();
    } else {
        run.says("nothing is acknowledged");
    }
}

fn every_command_does_what_it_does_without_a_proxy(kind: Kind) {
    let behind = Behind::new(kind);
    let daemon = &behind.daemon;
    for url in behind.urls() {
        // Caddy is written in Go, whose server answers over HTTP/1.1 only after the request
        // has ended.
        let is_acknowledged = kind != Kind::Caddy || url.starts_with("https");
        let pfs = |args: &[&str]| behind.pfs(url, args);
        pfs(&["create", "--ring-buffer-size", "8MB", "--channel-buffer-size", "8MB", S])
            .run()
            .exits(0)
            .quietly();

        // More than nginx accepts by default, and while a reader reads.
        let data = noise(1, 3 * 1024 * 1024);
        let reader = pfs(&["cat", "--stream", "--slow", "block", S]).spawn();
        written(
            pfs(&["write", "--stream", "--wait-readers", "1", S]).stdin(&data[..]).run(),
            is_acknowledged,
        );
        // Each line arrives before the next one is sent.
        let mut live = pfs(&["write", "--lines", "--close", S]).stdin_pipe().spawn();
        for line in 1..=3 {
            live.send(b"line\n");
            eventually("a line arrives at once", || {
                reader.stdout_len() == data.len() as u64 + 5 * line
            });
        }
        written(live.finish(), is_acknowledged);
        let read = reader.finish().exits(0).quietly();
        assert!(read.stdout == [&data[..], b"line\nline\nline\n"].concat());

        assert!(pfs(&["ls"]).run().exits(0).text().contains(S));
        assert!(pfs(&["stat", "--json", S]).run().exits(0).text().contains("\"closed\""));
        pfs(&["write", S]).stdin("x").run().exits(9);
        pfs(&["rm", S]).run().exits(0).quietly();

        // Neither the death of a writer nor a removal is the end of the stream.
        let mut writer = pfs(&["write", "--stream", S]).stdin_pipe().spawn();
        writer.send(b"x");
        eventually("it arrives", || daemon.stat(S).is_some_and(|stat| stat["head"] == 1));
        let closed = pfs(&["cat", "--stream", S]).spawn();
        let died = pfs(&["cat", "--stream", "--until", "writers-gone", S]).spawn();
        eventually("both read", || closed.stdout() == b"x" && died.stdout() == b"x");
        // Behind a proxy, the daemon does not believe any client's process id.
        assert_eq!(daemon.stat(S).unwrap()["readers"][0]["pid"], serde_json::Value::Null);
        writer.signal(Signal::KILL);
        writer.finish().exits(137);
        died.finish().exits(8);
        pfs(&["close", S]).run().exits(0).quietly();
        closed.finish().exits(0);
        let waiting = pfs(&["cat", "--stream", "/streamfs/later"]).spawn();
        eventually("it waits", || waiting.stderr().contains("/streamfs/later"));
        daemon.append("/streamfs/later", b"x");
        eventually("it reads", || waiting.stdout_len() == 1);
        pfs(&["rm", "/streamfs/later", S]).run().exits(0).quietly();
        waiting.finish().exits(7);
    }
}

fn curl_appends_follows_and_gets_events_as_they_happen(kind: Kind) {
    let behind = Behind::new(kind);
    let daemon = &behind.daemon;
    for url in behind.urls() {
        let mut put = behind.curl(url, &["-T", "-"], &format!("{S}?close")).stdin_pipe().spawn();
        put.send(b"one\n");
        eventually("a live upload arrives", || {
            daemon.stat(S).is_some_and(|stat| stat["head"] == 4)
        });
        let follow = behind.curl(url, &[], S).spawn();
        let events = behind.curl(url, &["-H", "Accept: text/event-stream"], S).spawn();
        eventually("history has come", || follow.stdout() == b"one\n");
        eventually("an event has come", || {
            String::from_utf8_lossy(&events.stdout()).contains("one")
        });
        put.send(b"two\n");
        eventually("what is live has come", || follow.stdout() == b"one\ntwo\n");
        eventually("its event has come", || {
            String::from_utf8_lossy(&events.stdout()).contains("two")
        });
        put.finish().exits(0);
        follow.finish().exits(0);
        assert!(String::from_utf8_lossy(&events.finish().exits(0).stdout).contains("event: end"));

        let data = noise(2, 3 * 1024 * 1024);
        behind.curl(url, &["-X", "DELETE"], S).run().exits(0);
        behind.curl(url, &["-T", "-"], S).stdin(&data[..]).run().exits(0);
        let read = behind.curl(url, &[], &format!("{S}?until=caught-up")).run().exits(0);
        assert!(read.stdout == data);
        behind.curl(url, &["-X", "DELETE"], S).run().exits(0);
    }
}

/// As in the table of docs/http.md: curl fails, or announced trailers are missing.
fn a_removal_and_the_end_are_told_apart(kind: Kind) {
    let behind = Behind::new(kind);
    let head = behind.daemon.dir().join("head");
    for url in behind.urls() {
        for removed in [false, true] {
            behind.daemon.append(S, b"x");
            let follow = behind.curl(url, &["-H", "TE: trailers"], S).arg("-D").arg(&head).spawn();
            eventually("it reads", || follow.stdout() == b"x");
            behind.pfs(url, &[if removed { "rm" } else { "close" }, S]).run().exits(0);
            let run = follow.finish();
            let head = std::fs::read_to_string(&head).unwrap().to_lowercase();
            let has_trailers = head.contains("\ntrailer:");
            let ended = head.lines().find_map(|line| line.strip_prefix("pfs-end: "));
            match (kind, url.starts_with("https"), removed) {
                (_, _, false) => {
                    assert_eq!((run.code, ended), (0, has_trailers.then_some("closed")), "{head}")
                }
                (Kind::Nginx, false, true) | (Kind::Haproxy, false, true) => {
                    assert_eq!(run.code, 18, "{run:?}")
                }
                (Kind::Nginx, true, true) => assert_eq!(run.code, 92, "{run:?}"),
                _ => assert_eq!((run.code, has_trailers, ended), (0, true, None), "{head}"),
            }
            assert_eq!(has_trailers, kind != Kind::Nginx, "{head}");
            let _ = behind.pfs(url, &["rm", "-f", S]).run();
        }
    }
}

/// Caddy aborted one of three requests that were answered before they had been read.
fn a_request_is_never_answered_before_it_was_read(kind: Kind) {
    let behind = Behind::new(kind);
    behind.daemon.append(S, b"x");
    behind.daemon.close(S);
    for url in behind.urls() {
        for _ in 0..20 {
            assert_eq!(
                behind.pfs(url, &["cat", "--stream", S]).run().exits(0).quietly().text(),
                "x"
            );
        }
    }
}

fn a_name_that_the_daemon_does_not_know_is_refused(kind: Kind) {
    let behind = Behind::new(kind);
    let [plain, _] = behind.urls();
    let run =
        behind.curl(plain, &["-H", "Host: elsewhere.example.org"], "/streamfs/").run().exits(22);
    run.says("421");
    behind.curl(plain, &["-H", "Host: streams.example.org"], "/streamfs/").run().exits(0);
}

fn a_missing_daemon_is_reported_with_the_answer_of_the_proxy(kind: Kind) {
    let mut behind = Behind::new(kind);
    behind.daemon.kill9();
    for url in behind.urls() {
        let run = behind.pfs(url, &["ls"]).run().exits(5);
        let name = match kind {
            Kind::Nginx => "nginx/",
            Kind::Haproxy => "the server answers 503",
            Kind::Caddy => "Caddy answers 502",
        };
        assert!(run.stderr.contains(name) && !run.stderr.contains("went away"), "{}", run.stderr);
    }
}
