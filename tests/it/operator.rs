//! `pfs info` and `pfs stop`: the daemon as a whole.

use harness::{Autostarted, Daemon, Pfs, Running, Transport, binary, eventually, served_by};
use serde_json::Value;

const S: &str = "/streamfs/s";

/// Parses the output of `pfs info --json`.
fn info(pfs: Pfs) -> Value {
    serde_json::from_slice(&pfs.args(["info", "--json"]).run().exits(0).quietly().stdout).unwrap()
}

harness::per_transport! {
    info_shows_the_daemon_and_how_much_of_its_limits_is_used,
}

fn info_shows_the_daemon_and_how_much_of_its_limits_is_used(transport: Transport) {
    let daemon = transport.daemon_with_config("[limits]\nmax_streams = 7\nmax_memory = \"64MB\"\n");
    daemon.create(S);
    let _reader = daemon.reader(S, []);
    let told = info(daemon.pfs([]));
    assert_eq!(
        (&told["pid"], &told["streams"], &told["max_streams"]),
        (&daemon.pid().into(), &1.into(), &7.into())
    );
    assert_eq!(
        (&told["mounts"], &told["max_memory"]),
        (&vec!["/streamfs"].into(), &(64 * 1024 * 1024).into())
    );
    assert!(told["memory"].as_u64() > Some(0) && told["connections"].as_u64() >= Some(2), "{told}");
    assert!(told["started"].is_string() && told["uptime_ms"].is_u64(), "{told}");
    assert_eq!(
        (&told["version"], &told["pfs_version"]),
        (&env!("CARGO_PKG_VERSION").into(), &told["version"])
    );
    let place = match transport {
        Transport::Http => told["url"].as_str(),
        Transport::Shm | Transport::Unix => told["socket"].as_str(),
    };
    let run = daemon.pfs(["status"]).run().exits(0).quietly();
    assert!(
        run.text().starts_with("pfsd ") && run.text().contains(place.unwrap()),
        "{}",
        run.text()
    );
    for part in [format!("pid         {}", daemon.pid()), "streams     1 of 7".to_owned()] {
        assert!(run.text().contains(&part), "no {part:?} in {}", run.text());
    }
}

#[test]
fn neither_info_nor_stop_starts_a_daemon() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    for command in [&["info"][..], &["info", "--json"], &["stop"], &["stop", "--if-idle"]] {
        let run = Pfs::for_user(user.path()).args(command).run().exits(5).says("no daemon answers");
        assert_eq!(run.text(), "");
        assert_eq!(daemon.pid(), None);
    }
    Pfs::usual()
        .args(["--url", "http://127.0.0.1:1", "info"])
        .run()
        .exits(5)
        .says("http://127.0.0.1:1");
}

#[test]
fn stop_tells_every_client_reports_losses_and_returns_when_another_daemon_can_start() {
    let daemon = Daemon::start();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let reader = daemon.reader(S, []);
    let run = daemon.pfs(["--quiet", "stop"]).run().exits(0);
    let run =
        run.says(&format!("stopped pfsd (pid {})", daemon.pid())).says("lost 1 stream with 6 B");
    assert!(
        run.stderr.contains("(/streamfs/s); 1 writer and 1 reader were attached"),
        "{}",
        run.stderr
    );
    // A client that is told of the shutdown can start a new daemon immediately.
    let another = Pfs::new(binary("pfsd")).arg("--socket").arg(daemon.socket()).spawn();
    let told = |client: Running| client.finish().exits(5).says("the daemon is shutting down");
    told(reader);
    told(writer);
    eventually("the other one answers", || served_by(&daemon.socket()) == Some(another.pid()));
    assert_eq!(info(daemon.pfs([]))["pid"], another.pid());
}

#[test]
fn stop_of_a_daemon_without_streams_says_only_that() {
    let mut daemon = Daemon::start();
    let expected =
        format!("pfs: stopped pfsd (pid {}) on {}\n", daemon.pid(), daemon.socket().display());
    assert_eq!(daemon.pfs(["stop", "--if-idle"]).run().exits(0).stderr, expected);
    eventually("it has ended", || !daemon.runs());
    assert!(!daemon.socket().exists());
}

#[test]
fn a_daemon_in_use_is_left_alone_by_stop_if_idle() {
    let mut daemon = Daemon::start();
    daemon.pfs(["create", S]).run().exits(0);
    let refused = daemon.pfs(["stop", "--if-idle"]).run().exits(1).says("1 stream with 0 bytes");
    refused.says("0 other connections");
    daemon.pfs(["rm", S]).run().exits(0);
    let waiting = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("it waits", || waiting.stderr().contains(S));
    daemon.pfs(["stop", "--if-idle"]).run().exits(1).says("0 streams").says("1 other connection");
    assert!(daemon.runs());
}

#[test]
fn a_daemon_cannot_be_stopped_over_http() {
    let mut daemon = Transport::Http.daemon();
    daemon.pfs(["stop"]).run().exits(1).says("over the Unix socket").says("kill").says("systemctl");
    assert!(daemon.runs());
}

#[test]
fn a_daemon_that_was_stopped_is_started_again_by_the_next_command() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    Pfs::for_user(user.path()).args(["create", S]).run().exits(0);
    let first = daemon.pid().unwrap();
    Pfs::for_user(user.path()).arg("stop").run().exits(0).says(S);
    assert_eq!(daemon.pid(), None);
    Pfs::for_user(user.path()).args(["create", S]).run().exits(0).quietly();
    assert_ne!(daemon.pid().unwrap(), first);
}
