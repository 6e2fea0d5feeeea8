//! `pfs --url`: every command over HTTP. Everything else is the same as over a socket, which the
//! `http` modules of the other files test.

mod access;
mod proxied;
mod resume;
mod speech;
mod tls;

use harness::{Daemon, Link, Pfs, binary, digest, noise};
use serde_json::Value;

const S: &str = "/streamfs/s";

/// Builds a `pfs` command line with this URL.
fn pfs_at<const N: usize>(url: &str, args: [&str; N]) -> Pfs {
    Pfs::new(binary("pfs")).args(["--url", url]).args(args)
}

#[test]
fn a_flag_a_variable_and_a_url_below_a_path_lead_to_the_same_daemon() {
    let daemon = Daemon::with_http();
    let url = daemon.url("");
    let data = noise(1, 3 * 1024 * 1024);
    pfs_at(&url, ["write", "--stream", "--close", S]).stdin(&data[..]).run().exits(0).quietly();
    let read = daemon.pfs_http(["cat", "--stream", S]).run().exits(0).quietly();
    assert_eq!(digest(&read.stdout), digest(&data));

    let proxy = Link::to(daemon.http_address(), "/some/where");
    for slash in ["", "/"] {
        let url = format!("{}/some/where{slash}", proxy.url());
        let read = pfs_at(&url, ["cat", "--stream", S]).run().exits(0).quietly();
        assert_eq!(digest(&read.stdout), digest(&data));
        pfs_at(&url, ["write", "--stream", "/streamfs/t"])
            .stdin("through")
            .run()
            .exits(0)
            .quietly();
    }
    assert_eq!(daemon.head("/streamfs/t"), 14);
}

#[test]
fn naming_two_daemons_or_an_invalid_url_is_a_usage_error() {
    let daemon = Daemon::with_http();
    let (url, socket) = (daemon.url(""), daemon.socket());
    let socket = socket.to_str().unwrap();
    let pfs = || Pfs::new(binary("pfs"));
    pfs().args(["--url", &url, "--socket", socket, "ls"]).run().exits(2).says("--socket");
    pfs().args(["--url", &url, "ls", "--socket", socket]).run().exits(2).says("--socket");
    pfs().env("PFS_URL", &url).env("PFS_SOCKET", socket).arg("ls").run().exits(2).says("PFS_URL");
    for bad in ["127.0.0.1:port", "ftp://127.0.0.1", "http://", "http://me:secret@127.0.0.1"] {
        let run = pfs_at(bad, ["ls"]).run().exits(2).says("http://127.0.0.1:4437");
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    }
    // A flag takes precedence over the environment.
    pfs().env("PFS_URL", "http://127.0.0.1:1").args(["--socket", socket, "ls"]).run().exits(0);
    pfs().env("PFS_SOCKET", "/nowhere").args(["--url", &url, "ls"]).run().exits(0);
    pfs().env("PFS_URL", "http://127.0.0.1:1").args(["--url", &url, "ls"]).run().exits(0);
}

#[test]
fn a_url_where_nothing_answers_has_no_daemon_and_none_is_started() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let user = tempfile::tempdir().unwrap();
    let url = format!("http://{free}");
    let run = Pfs::for_user(user.path()).args(["--url", &url, "ls"]).run().exits(5);
    run.says(&url);
    assert!(!user.path().join("pfs").exists(), "a daemon was started");
}

#[test]
fn a_server_that_is_not_a_daemon_is_reported_as_such() {
    let daemon = Daemon::with_http();
    let run = pfs_at(&daemon.url("/elsewhere"), ["ls"]).run().exits(1);
    run.says(&daemon.url("/elsewhere"));
}

#[test]
fn bench_measures_over_http_if_the_daemon_is_at_a_url() {
    let daemon = Daemon::with_http();
    let run = daemon
        .pfs_http(["bench", "--json", "--readers", "3", "--writers", "2", "--size", "10MB"])
        .run();
    let report: Value = serde_json::from_str(run.exits(0).quietly().text()).unwrap();
    assert_eq!(report["transport"], "http");
    assert_eq!(report["delivered"]["bytes"], 30 * 1024 * 1024);
    assert_eq!(report["lost"]["bytes"], 0);
    daemon.pfs_http(["bench", "--transport", "unix"]).run().exits(2).says("--transport http");
    Pfs::new(binary("pfs"))
        .env("PFS_SOCKET", daemon.socket())
        .args(["bench", "--transport", "http"])
        .run()
        .exits(2)
        .says("--url");
    assert!(daemon.streams().is_empty());
}

#[test]
fn a_local_reader_and_writer_are_identified_by_their_process_ids() {
    let daemon = Daemon::with_http();
    let mut writer = daemon.pfs_http(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"x");
    harness::eventually("it is written", || daemon.head(S) == 1);
    let _reader = daemon.attached(S, daemon.pfs_http(["cat", "--stream", S]));
    let stat = daemon.stat(S).unwrap();
    assert_eq!(stat["writers"][0]["pid"], writer.pid());
    assert_eq!(stat["readers"][0]["uid"], Value::Null, "that is not for the client to say");
    let shown = daemon.pfs(["stat", S]).run().exits(0);
    let made = format!(" ago by process {}\n", writer.pid());
    assert!(shown.text().contains(&made) && !shown.text().contains('-'), "{}", shown.text());
}
