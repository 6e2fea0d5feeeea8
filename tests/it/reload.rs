//! Reload of the configuration, by SIGHUP and by `pfsd --reload`: what changes and what stays.

use std::{fs, io::Write as _, path::Path};

use harness::{
    Daemon, Finished, Machine, Pfs, Running, Signal, Transport, binary, eventually, noise,
};
use pfs_proto::{Hello, Reply, Request};

use crate::limits::Pair;

const S: &str = "/streamfs/s";

harness::per_transport! {
    a_stream_that_runs_and_its_clients_notice_nothing_of_a_reload,
    a_new_limit_on_connections_refuses_further_ones_and_cuts_none,
}

fn limits(toml: &str) -> String {
    format!("[limits]\n{toml}\n")
}

fn a_stream_that_runs_and_its_clients_notice_nothing_of_a_reload(transport: Transport) {
    let daemon = transport.daemon_with_config("");
    daemon.create(S);
    let mut reader = daemon.piped_reader(S, ["--slow", "block"]);
    let digest = reader.digest_stdout();
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let fed = writer.feed(|number| noise(number as u64, 100_000));
    let before = daemon.head(S);
    for round in 1..20 {
        let toml = limits(&format!(
            "max_streams = {round}\nmax_memory = \"{}MB\"\nmax_connections = {}\nmax_block_time = \"{round}h\"",
            20 * round,
            100 * round
        ));
        let head = daemon.head(S);
        daemon.reload(&toml).exits(0).quietly();
        eventually("the stream goes on", || daemon.head(S) > head);
    }
    assert!(daemon.head(S) > before);
    let fed = fed.end();
    writer.finish().exits(0).quietly();
    reader.finish().exits(0).quietly();
    assert_eq!(digest.join().unwrap(), harness::digest(&fed));
}

#[test]
fn a_new_limit_on_streams_or_memory_refuses_further_ones_and_removes_none() {
    let daemon = Daemon::with_config(&limits("max_streams = 3"));
    let mut pair = Pair::start(&daemon);
    daemon.create("/streamfs/2");
    let create = |stream: &str| daemon.pfs(["create", "--reserve", stream]).run();
    daemon.reload(&limits("max_streams = 1")).exits(0);
    create("/streamfs/3").exits(1).says("max_streams");
    assert_eq!(daemon.streams().len(), 2);
    pair.goes_on();
    daemon.reload(&limits("max_streams = 4\nmax_memory = \"8MB\"")).exits(0);
    create("/streamfs/3").exits(1).says("max_memory");
    pair.goes_on();
    daemon.reload(&limits("max_streams = 4")).exits(0);
    create("/streamfs/3").exits(0);
    pair.ends();
}

fn a_new_limit_on_connections_refuses_further_ones_and_cuts_none(transport: Transport) {
    let few = limits("max_connections = 3\nmax_connections_per_address = 3");
    let daemon = transport.daemon_with_config("");
    // The writer, the reader and the observer.
    let mut pair = Pair::start(&daemon);
    daemon.reload(&few).exits(0);
    let refused = daemon.pfs(["ls", "/streamfs"]).run();
    refused.exits(1).says("the daemon has 3 connections already");
    pair.goes_on();
    // Even `pfsd --reload` cannot connect, and says what helps.
    let said = daemon.reload(&limits("max_connections = 100")).exits(1);
    said.says("limits.max_connections").says("kill -HUP");
    daemon.signal(Signal::HUP);
    eventually("there is room again", || daemon.pfs(["ls", "/streamfs"]).run().code == 0);
    pair.ends();
}

#[test]
fn a_writer_that_waits_for_a_reader_is_freed_by_a_new_time_limit() {
    let daemon = Daemon::with_buffers(65_536, 65_536);
    daemon.create(S);
    let stalled = daemon.piped_reader(S, ["--slow", "block"]);
    let writer =
        daemon.pfs(["write", "--stream", "--close", S]).stdin(noise(1, 4 * 1024 * 1024)).spawn();
    eventually("the writer waits", || daemon.stat(S).unwrap()["writers"][0]["waiting"] == true);
    let toml = fs::read_to_string(daemon.config()).unwrap();
    daemon.reload(&format!("{toml}\n{}", limits("max_block_time = \"1ms\""))).exits(0);
    writer.finish().exits(0);
    assert!(daemon.log().contains("the reader is a drop reader now"), "{}", daemon.log());
    drop(stalled);
}

#[test]
fn an_invalid_configuration_changes_nothing_and_the_reason_is_reported_and_logged() {
    let daemon = Daemon::with_config(&limits("max_streams = 2"));
    let mut pair = Pair::start(&daemon);
    daemon.create("/streamfs/2");
    for (toml, parts) in [
        (
            "[limits]\nmax_streams = 9\nmax_stream = 9\n",
            &["pfsd.toml:3:", "max_stream", "max_streams"][..],
        ),
        (
            "[limits]\nmax_streams = 9\nidle_time = \"soon\"\n",
            &["pfsd.toml:3:", "limits.idle_time", "10s"],
        ),
        ("[limits]\nmax_streams = 9\n[listen\n", &["pfsd.toml:3:"]),
        (
            "[limits]\nmax_streams = 9\n[http]\nkey = \"/k\"\n",
            &["pfsd.toml:4:", "http.certificate"],
        ),
    ] {
        let lines = daemon.log().lines().count();
        let run = daemon.reload(toml).exits(1);
        let log = daemon.log();
        let [line] = log.lines().skip(lines).collect::<Vec<_>>()[..] else {
            panic!("more than a line: {log}")
        };
        assert!(
            line.contains("ERROR") && line.contains("the old configuration stays in force"),
            "{line}"
        );
        for part in parts {
            assert!(run.stderr.contains(part), "nothing of {part:?} in {}", run.stderr);
            assert!(line.contains(part), "nothing of {part:?} in {line}");
        }
        daemon.pfs(["create", "/streamfs/3"]).run().exits(1).says("max_streams");
        pair.goes_on();
    }
    fs::remove_file(daemon.config()).unwrap();
    let asked = Pfs::new(binary("pfsd")).arg("--reload").arg("--socket").arg(daemon.socket());
    asked.run().exits(1).says("pfsd.toml");
    pair.ends();
}

#[test]
fn pfsd_reload_prints_what_changed_and_what_waits_for_the_next_start() {
    let daemon = Daemon::with_config(&limits("max_streams = 2"));
    let config = daemon.config();
    let title = format!("reloaded {}", config.display());
    let told = daemon.reload(&limits("max_streams = 2")).exits(0).quietly();
    assert_eq!(told.text(), format!("{title}\n  limits unchanged\n"));
    let toml = "[listen]\nshm = \"all\"\n[limits]\nidle_time = \"5s\"\n";
    let told = daemon.reload(toml).exits(0).quietly();
    let changed = ["limits.max_streams from 2 to 1000000", "limits.idle_time from 1m to 5s"];
    let waits =
        "listen.shm differs from the running value; the new value takes effect at the next start";
    assert_eq!(
        told.text(),
        format!("{title}\n  {}\n  {}\nwarning: {waits}\n", changed[0], changed[1])
    );
    let log = daemon.log();
    let line = format!("{title}: {}", changed.join("; "));
    assert!(log.contains(&line) && log.contains(&format!("WARN {waits}")), "{log}");
    let told = daemon.reload(toml).exits(0).quietly();
    assert_eq!(told.text(), format!("{title}\n  limits unchanged\nwarning: {waits}\n"));
}

fn asked(args: &[&str], place: &Path) -> Finished {
    Pfs::new(binary("pfsd")).arg("--reload").args(args).env("XDG_RUNTIME_DIR", place).run()
}

#[test]
fn reload_asks_the_daemon_on_the_socket_where_a_start_would_serve() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("other.toml");
    fs::write(&config, format!("[listen]\nsocket = {socket:?}\n")).unwrap();
    let config = config.to_str().unwrap();
    asked(&["--config", config], folder.path()).exits(0);
    asked(&["--socket", socket.to_str().unwrap()], folder.path()).exits(0);
    asked(&["--socket", "/nowhere/s", "--config", config], folder.path())
        .exits(1)
        .says("/nowhere/s");
    asked(&["--check-config"], folder.path()).exits(2);
    fs::write(config, "[listen]\nsockets = 1\n").unwrap();
    asked(&["--config", config], folder.path())
        .exits(1)
        .says("other.toml:2")
        .says("the socket of the daemon is unknown");
}

#[test]
fn without_a_socket_reload_looks_for_the_daemon_where_clients_look() {
    // On the real machine, this would find and reload a daemon of the user who runs the test.
    let Some(machine) = Machine::new() else { return };
    machine.directory("/run/user/0", 0, 0o700);
    let reload =
        machine.pfsd(0, &[("XDG_RUNTIME_DIR", "/run/user/0")]).arg("--reload").run().exits(1);
    reload.says("no daemon answers").says("/run/user/0/pfs/pfsd.sock");
}

#[test]
fn a_daemon_without_a_configuration_file_survives_and_says_there_is_nothing_to_reload() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut daemon = Pfs::new(binary("pfsd")).arg("--socket").arg(&socket).spawn();
    let nothing = "started without a configuration file (--config); there is nothing to reload";
    eventually("it serves", || daemon.stderr().contains("serving"));
    daemon.signal(Signal::HUP);
    eventually("it says so", || daemon.stderr().contains(nothing));
    assert!(daemon.runs());
    let told = asked(&["--socket", socket.to_str().unwrap()], folder.path()).exits(0);
    assert!(told.text().contains(nothing), "{}", told.text());
    daemon.signal(Signal::TERM);
    daemon.finish().exits(0);
}

/// Writes a configuration into this named pipe, which the daemon reads.
fn give(pipe: &Path, toml: &str) {
    // Blocks until the daemon has opened the pipe too.
    fs::OpenOptions::new().write(true).open(pipe).unwrap().write_all(toml.as_bytes()).unwrap();
}

#[test]
fn a_daemon_that_does_not_serve_yet_is_not_ended_by_sighup_and_reloads_once_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, socket) = (folder.path().join("pfsd.toml"), folder.path().join("s"));
    Pfs::new("mkfifo").arg(&pipe).run().exits(0);
    let mut daemon: Running =
        Pfs::new(binary("pfsd")).arg("--config").arg(&pipe).arg("--socket").arg(&socket).spawn();
    let writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    daemon.signal(Signal::HUP);
    assert!(!socket.exists() && daemon.runs());
    drop(writer);
    eventually("it serves", || daemon.stderr().contains("serving"));
    give(&pipe, &limits("max_streams = 7"));
    eventually("it has reloaded", || {
        daemon.stderr().contains("limits.max_streams from 1000000 to 7")
    });
    daemon.signal(Signal::TERM);
    daemon.finish().exits(0);
}

#[test]
fn while_a_reload_waits_for_its_file_clients_are_served_and_the_daemon_can_end() {
    let daemon = Daemon::start();
    fs::remove_file(daemon.config()).unwrap();
    Pfs::new("mkfifo").arg(daemon.config()).run().exits(0);
    let asking =
        Pfs::new(binary("pfsd")).arg("--reload").arg("--socket").arg(daemon.socket()).spawn();
    // Blocks until the daemon reads the pipe.
    let writer = fs::OpenOptions::new().write(true).open(daemon.config()).unwrap();
    let mut wire = daemon.wire();
    assert!(matches!(wire.send(&Request::Hello(Hello::OURS)).reply(), Some(Reply::Hello(_))));
    daemon.append(S, "served");
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    asking.finish().exits(1).says("shutting down");
    drop(writer);
}
