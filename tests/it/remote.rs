//! Remote mounts: readers at one daemon follow the streams of another one.

mod stats;

use std::time::Duration;

use harness::{Daemon, Direction, Link, Signal, Transport, digest, eventually, gaps, kept, noise};
use pfs_proto::{ReadOptions, Reply, Request};

use crate::http::tls::Authority;

/// The stream at its owner, and at the daemon that mounts it.
const S: &str = "/streamfs/s";
const EDGE: &str = "/edge/s";

harness::per_transport! {
    a_reader_gets_the_history_then_live_data_and_the_end,
    a_stream_that_does_not_exist_yet_is_waited_for,
    a_gap_of_the_link_reaches_a_reader_exactly,
    a_link_that_breaks_again_and_again_loses_nothing,
    a_reader_ends_with_the_last_writer_at_the_owner,
    what_is_written_here_is_at_the_owner_when_pfs_exits,
    a_writer_that_dies_here_dies_at_the_owner,
    a_block_reader_here_makes_the_writer_at_the_owner_wait,
    a_block_reader_that_is_given_up_holds_up_nobody_else,
    media_is_joined_with_the_header_that_only_the_owner_has,
}

/// Starts a daemon that mounts the streams at this URL below `/edge`.
fn edge(transport: Transport, url: &str) -> Daemon {
    let mount = format!("[mounts.edge]\npath = \"/edge\"\nurl = \"{url}/streamfs\"\n");
    transport.daemon_with_http_config(&mount)
}

fn owner_and_edge(transport: Transport) -> (Daemon, Daemon) {
    let owner = Daemon::with_http();
    let edge = edge(transport, &owner.url(""));
    (owner, edge)
}

/// Reads what is there now. Returns the output and the messages.
#[track_caller]
fn read<const N: usize>(edge: &Daemon, args: [&str; N]) -> (Vec<u8>, String) {
    let cat = edge.pfs(["cat", "--stream", "--until", "caught-up", EDGE]).args(args);
    let run = cat.run().exits(0);
    (run.stdout, run.stderr)
}

fn a_reader_gets_the_history_then_live_data_and_the_end(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    let data = noise(1, 3_000_000);
    let (history, live) = data.split_at(1_000_000);
    owner.append(S, history);
    assert!(read(&edge, []).0 == history);
    assert!(read(&edge, ["--tail", "1000"]).0 == history[999_000..]);
    assert_eq!(read(&edge, ["--new"]).0, b"");
    let mut readers: Vec<_> = (0..3).map(|_| edge.reader(EDGE, [])).collect();
    for part in live.chunks(100_000) {
        owner.append(S, part);
    }
    for reader in &readers {
        eventually("everything is read", || reader.stdout_len() == data.len() as u64);
    }
    // One copy crossed the network: the owner has one reader, the link.
    let readers_of_owner = owner.stat(S).unwrap()["readers"].as_array().unwrap().len();
    assert_eq!(readers_of_owner, 1);
    owner.close(S);
    for reader in readers.drain(..) {
        let read = reader.finish().exits(0).quietly();
        assert_eq!(digest(&read.stdout), digest(&data));
    }
    // A reader of the closed stream gets all of it, too.
    let all = edge.pfs(["cat", "--stream", EDGE]).run().exits(0).quietly();
    assert_eq!(digest(&all.stdout), digest(&data));
}

fn a_stream_that_does_not_exist_yet_is_waited_for(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    let missing = edge.pfs(["cat", "--stream", "--until", "caught-up", EDGE]);
    missing.run().exits(3).says("there is no stream /edge/s");
    let waiting = edge.pfs(["cat", "--stream", EDGE]).spawn();
    eventually("the reader says that it waits", || waiting.stderr().contains("waiting"));
    owner.append(S, b"first");
    owner.append(S, b" second");
    owner.close(S);
    assert_eq!(waiting.finish().exits(0).stdout, b"first second");
}

fn a_gap_of_the_link_reaches_a_reader_exactly(transport: Transport) {
    let owner = Daemon::with_http();
    owner.create_with_buffers(S, 64 * 1024, 64 * 1024);
    let link = Link::to(owner.http_address(), "");
    let edge = edge(transport, &link.url());
    owner.append(S, noise(1, 10_000));
    let reader = edge.reader(EDGE, []);
    eventually("the history is read", || reader.stdout_len() == 10_000);
    // While the link is broken, the owner overwrites more than its ring holds.
    link.stall(Some(Direction::ToClient));
    for seed in 2..30 {
        owner.append(S, noise(seed, 10_000));
    }
    link.cut();
    link.stall(None);
    owner.append(S, noise(30, 10_000));
    let of_link = |name: &str| edge.stat(EDGE).unwrap()["hops"][0]["link"][name].as_u64();
    eventually("the loss is counted", || of_link("lost_bytes") > Some(0));
    assert_eq!(of_link("reconnects"), Some(1));
    owner.close(S);
    let read = reader.finish().exits(4);
    let lost = gaps(&read.stderr);
    let all: Vec<u8> = (1..=30).flat_map(|seed| noise(seed, 10_000)).collect();
    assert!(!lost.is_empty());
    assert_eq!(digest(&read.stdout), digest(&kept(&all, 0, &lost)));
    // A reader that joins later starts after the gap.
    let late = edge.pfs(["cat", "--stream", EDGE]).run().exits(0);
    assert!(all.ends_with(&late.stdout) && !late.stdout.is_empty());
}

fn a_link_that_breaks_again_and_again_loses_nothing(transport: Transport) {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    let edge = edge(transport, &link.url());
    let data = noise(3, 2_000_000);
    let mut parts = data.chunks(20_000);
    owner.append(S, parts.next().unwrap());
    let reader = edge.reader(EDGE, []);
    for (number, part) in parts.enumerate() {
        owner.append(S, part);
        match number % 20 {
            5 => link.cut(),
            15 => link.reset(),
            _ => {}
        }
    }
    eventually("everything is read", || reader.stdout_len() == data.len() as u64);
    owner.close(S);
    let read = reader.finish().exits(0).quietly();
    assert_eq!(digest(&read.stdout), digest(&data));
    assert!(edge.log().contains("link restored"), "{}", edge.log());
}

fn a_reader_ends_with_the_last_writer_at_the_owner(transport: Transport) {
    for (signal, code) in [(None, 0), (Some(Signal::KILL), 8)] {
        let (owner, edge) = owner_and_edge(transport);
        let mut writer = owner.pfs(["write", "--stream", S]).stdin_pipe().spawn();
        writer.send(b"some");
        eventually("it is there", || owner.head(S) == 4);
        let reader = edge.reader(EDGE, ["--until", "writers-gone"]);
        eventually("it is read", || reader.stdout_len() == 4);
        writer.send(b" more");
        eventually("all of it is there", || owner.head(S) == 9);
        match signal {
            Some(signal) => writer.signal(signal),
            None => writer.end_input(),
        }
        assert_eq!(reader.finish().exits(code).stdout, b"some more");
    }
}

fn media_is_joined_with_the_header_that_only_the_owner_has(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../pfs-media/tests/samples");
    for name in ["video.webm", "audio.wav", "video.ts"] {
        let film = std::fs::read(format!("{folder}/{name}")).unwrap();
        let ring = film.len() as u64 / 3;
        let stream = format!("/streamfs/{name}");
        owner.create_with_buffers(&stream, ring, ring);
        let write = ["write", "--stream", "--chunk-size", "100", &stream];
        owner.pfs(write).stdin(&*film).run().exits(0).quietly();
        let read = |daemon: &Daemon, stream: &str, args: [&str; 2]| {
            let cat = daemon.pfs(["cat", "--stream", "--until", "caught-up", stream]);
            cat.args(args).run().exits(0).stdout
        };
        for args in [["--tail", "1MB"], ["--tail", "1000"]] {
            let (here, there) =
                (read(&edge, &format!("/edge/{name}"), args), read(&owner, &stream, args));
            assert!(!there.is_empty() && here == there, "{name} {args:?}");
        }
    }
}

#[test]
fn stats_and_listings_are_those_of_the_owner() {
    let (owner, edge) = owner_and_edge(Transport::Shm);
    for name in ["a", "b/c", "b/d"] {
        owner.append(&format!("/streamfs/{name}"), name.as_bytes());
    }
    edge.append("/streamfs/here", b"local");
    let list = |path: &str| edge.pfs(["ls", path]).run().exits(0).quietly().text().to_owned();
    assert_eq!(list("/"), "/edge/a\n/edge/b/c\n/edge/b/d\n/streamfs/here\n");
    assert_eq!(list("/edge/b"), "/edge/b/c\n/edge/b/d\n");
    // More than one page.
    let names = (0..120).map(|number| format!("many/{number:03}"));
    let all: Vec<String> = names.map(|name| format!("/edge/{name}")).collect();
    all.iter().for_each(|path| owner.append(&path.replace("/edge", "/streamfs"), b"x"));
    assert_eq!(list("/edge/many"), all.join("\n") + "\n");
    assert_eq!(list("/").lines().count(), all.len() + 4);
    edge.pfs(["ls", "/edge/x"]).run().exits(3).says("/edge/x");
    let stat = edge.stat("/edge/b/c").unwrap();
    let there = owner.stat("/streamfs/b/c").unwrap();
    assert_eq!((&stat["path"], &stat["head"]), (&"/edge/b/c".into(), &there["head"]));
    assert_eq!(stat["created"], there["created"]);
    assert_eq!(edge.stat("/edge/x"), None);
}

fn what_is_written_here_is_at_the_owner_when_pfs_exits(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    let data = noise(5, 3_000_000);
    for (args, stream) in [(&["--stream", "--close"][..], "/edge/a"), (&["--close"], "/edge/b")] {
        edge.pfs(["write", stream]).args(args).stdin(&*data).run().exits(0).quietly();
        let there = stream.replace("/edge", "/streamfs");
        let read = owner.pfs(["cat", "--stream", &there]).run().exits(0).quietly();
        assert_eq!(digest(&read.stdout), digest(&data));
        assert_eq!(owner.stat_number(&there, "writers_finished"), 1);
        edge.pfs(["write", "--stream", stream]).stdin("x").run().exits(9).says("closed");
    }
    let lines = "one\ntwo\nthree\n";
    edge.pfs(["write", "--lines", EDGE]).stdin(lines).run().exits(0).quietly();
    edge.pfs(["write", EDGE]).stdin("four\n").run().exits(0).quietly();
    assert_eq!(read(&edge, []).0, b"one\ntwo\nthree\nfour\n");
    edge.pfs(["write", "--replace", EDGE]).stdin("new").run().exits(0).quietly();
    assert_eq!((owner.head(S), read(&edge, []).0), (3, b"new".to_vec()));
}

fn a_writer_that_dies_here_dies_at_the_owner(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    let reader = owner.pfs(["cat", "--stream", "--until", "writers-gone", S]).spawn();
    let mut writer = edge.pfs(["write", "--stream", EDGE]).stdin_pipe().spawn();
    writer.send(b"half");
    eventually("it is read", || reader.stdout_len() == 4);
    writer.signal(Signal::KILL);
    assert_eq!(reader.finish().exits(8).stdout, b"half");
    let failed = edge.pfs(["write", "--stream", "--close", "/edge/c", "--", "sh", "-c", "exit 3"]);
    failed.run().exits(3);
    owner.pfs(["cat", "--stream", "/streamfs/c"]).run().exits(8);
}

/// Whether the link blocks writers: only the link reads at the owner, and while its policy changes,
/// it is attached twice.
fn link_blocks(owner: &Daemon) -> bool {
    let stat = owner.stat(S).unwrap();
    stat["readers"].as_array().unwrap().iter().any(|reader| reader["policy"] == "block")
}

fn a_block_reader_here_makes_the_writer_at_the_owner_wait(transport: Transport) {
    let (owner, edge) = owner_and_edge(transport);
    owner.create_with_buffers(S, 64 * 1024, 64 * 1024);
    // The link has the policy only for as long as a reader has.
    let drop = edge.reader(EDGE, []);
    assert!(!link_blocks(&owner));
    let block = edge.reader(EDGE, ["--slow", "block"]);
    assert!(link_blocks(&owner));
    for reader in [block, drop] {
        reader.signal(Signal::TERM);
        reader.finish().exits(143);
        eventually("the link drops again", || !link_blocks(&owner));
    }

    let mut slow = edge.piped_reader(EDGE, ["--slow", "block"]);
    assert!(link_blocks(&owner));
    let mut writer = owner.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let input = writer.feed(|number| noise(number as u64, 1 << 20));
    eventually("the writer waits for it", || {
        owner.stat(S).unwrap()["writers"][0]["waiting"] == true
    });
    let got = slow.digest_stdout();
    let data = input.end();
    writer.finish().exits(0);
    slow.finish().exits(0).quietly();
    assert_eq!(got.join().unwrap(), digest(&data));
}

fn a_block_reader_that_is_given_up_holds_up_nobody_else(transport: Transport) {
    let owner = Daemon::with_http();
    owner.create_with_buffers(S, 64 * 1024, 64 * 1024);
    let mount = format!(
        "[limits]\nmax_block_time = \"50ms\"\n[mounts.edge]\npath = \"/edge\"\nurl = \"{}\"\n",
        owner.url("/streamfs")
    );
    let edge = transport.daemon_with_http_config(&mount);
    let slow = edge.piped_reader(EDGE, ["--slow", "block"]);
    let data = noise(8, 24 << 20);
    let write = ["write", "--stream", "--close", "--chunk-size", "16KB", S];
    owner.pfs(write).stdin(&data[..]).run().exits(0);
    eventually("the link has read everything", || edge.log().contains("the stream is closed"));
    assert!(edge.log().contains("the reader is a drop reader now"), "{}", edge.log());
    let mut slow = slow;
    let mut output = Vec::new();
    std::io::Read::read_to_end(&mut slow.take_stdout(), &mut output).unwrap();
    let lost = gaps(&slow.finish().exits(4).stderr);
    assert!(!lost.is_empty());
    assert_eq!(digest(&output), digest(&kept(&data, 0, &lost)));
}

#[test]
fn a_block_reader_is_refused_where_the_mount_may_not_block_writers() {
    let tokens = tempfile::tempdir().unwrap();
    let (all, own) = (tokens.path().join("tokens"), tokens.path().join("own"));
    std::fs::write(&all, "token-of-the-mount read\n").unwrap();
    std::fs::write(&own, "token-of-the-mount").unwrap();
    let owner = Daemon::with_http_config(&format!("[auth]\ntoken_file = \"{}\"\n", all.display()));
    let link = Link::to(owner.http_address(), "");
    let mount = "[mounts.edge]\npath = \"/edge\"\nurl";
    let (url, file) = (link.url(), own.display());
    let config = format!("{mount} = \"{url}/streamfs\"\ntoken_file = \"{file}\"\n");
    let edge = Daemon::with_config(&config);
    owner.append(S, b"some");
    let reader = edge.reader(EDGE, []);
    let block = || edge.pfs(["cat", "--stream", "--slow", "block", EDGE]).run();
    block().exits(1).says("may not block the writers of /streamfs/s");
    // The link goes on for other readers.
    owner.append(S, b" more");
    eventually("it is read", || reader.stdout_len() == 9);
    assert_eq!(edge.stat(EDGE).unwrap()["hops"][0]["link"]["reconnects"], 0);
    link.cut_and_refuse(usize::MAX);
    eventually("the link is lost", || edge.log().contains("link lost"));
    block().exits(5).says("the link is down");
}

#[test]
fn a_history_that_comes_slowly_and_in_pieces_is_read_whole() {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    // The breaks and pauses take longer than a replica without readers is kept.
    let url = link.url();
    let mount =
        format!("[mounts.edge]\npath = \"/edge\"\nurl = \"{url}/streamfs\"\nkeep = \"1s\"\n");
    let edge = Daemon::with_config(&mount);
    let data = noise(10, 1_800_000);
    let append = || data.chunks(100_000).for_each(|chunk| owner.append(S, chunk));
    append();
    owner.close(S);
    link.cut_each_after(300_000);
    let read = edge.pfs(["cat", "--stream", EDGE]).run().exits(0).quietly();
    assert_eq!(digest(&read.stdout), digest(&data));
    // A reader does not wait for an owner that is gone.
    edge.pfs(["rm", EDGE]).run().exits(0);
    append();
    let reader = edge.pfs(["cat", "--stream", EDGE]).spawn();
    let lost = edge.log().matches("link lost").count();
    eventually("the link is lost", || edge.log().matches("link lost").count() > lost);
    link.cut_and_refuse(usize::MAX);
    reader.finish().exits(5);
}

#[test]
fn a_reader_that_waits_for_its_stream_survives_a_restart_of_the_owner() {
    let mut owner = Daemon::with_http();
    let edge = edge(Transport::Shm, &owner.url(""));
    let waiting = edge.pfs(["cat", "--stream", EDGE]).spawn();
    eventually("the reader says that it waits", || waiting.stderr().contains("waiting"));
    owner.kill9();
    owner.restart();
    owner.append(S, b"at last");
    owner.close(S);
    assert_eq!(waiting.finish().exits(0).stdout, b"at last");
}

#[test]
fn a_reader_over_http_goes_on_when_the_mounting_daemon_is_restarted() {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    let mut edge = edge(Transport::Http, &link.url());
    owner.append(S, b"before");
    let reader = edge.reader(EDGE, []);
    eventually("it is read", || reader.stdout_len() == 6);
    // The new daemon needs a while to find the stream.
    link.delay(Direction::ToClient, Duration::from_millis(100));
    edge.kill9();
    edge.restart();
    owner.append(S, b" after");
    owner.close(S);
    assert_eq!(reader.finish().exits(0).stdout, b"before after");
}

#[test]
fn only_a_reader_whose_stream_is_missing_is_told_that_it_waits_for_it() {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    link.delay(Direction::ToClient, Duration::from_millis(100));
    let edge = edge(Transport::Shm, &link.url());
    let first_reply = |stream: &str| {
        let mut wire = edge.wire().greeted();
        let options = ReadOptions::default().wait(true);
        wire.send(&Request::OpenReader(stream.parse().unwrap(), options)).reply()
    };
    assert_eq!(first_reply("/edge/missing"), Some(Reply::Waiting));
    owner.append(S, b"contents");
    assert!(matches!(first_reply(EDGE), Some(Reply::Reading { head: 8, .. })));
}

#[test]
fn a_reader_that_waits_is_attached_whatever_other_clients_ask() {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    let edge = edge(Transport::Http, &link.url());
    for number in 0..5 {
        let (there, here) = (format!("/streamfs/{number}"), format!("/edge/{number}"));
        let waiting = edge.pfs(["cat", "--stream", &here]).spawn();
        eventually("the reader says that it waits", || waiting.stderr().contains("waiting"));
        // The answer that there is no such stream arrives with the stream itself.
        link.stall(Some(Direction::ToClient));
        let asking = edge.pfs(["cat", "--stream", "--until", "caught-up", &here]).spawn();
        owner.append(&there, b"contents");
        owner.close(&there);
        link.stall(None);
        assert_eq!(waiting.finish().exits(0).stdout, b"contents");
        asking.finish();
    }
}

#[test]
fn a_writer_that_had_died_before_is_not_told_again() {
    let (owner, edge) = owner_and_edge(Transport::Shm);
    let writer = |text: &[u8], head: u64| {
        let mut writer = owner.pfs(["write", "--stream", S]).stdin_pipe().spawn();
        writer.send(text);
        eventually("it is there", || owner.head(S) == head);
        writer
    };
    let first = writer(b"first", 5);
    first.signal(Signal::KILL);
    eventually("it is dead", || owner.stat_number(S, "writers_died") == 1);
    let mut second = writer(b" second", 12);
    let reader = edge.reader(EDGE, ["--until", "writers-gone"]);
    eventually("it is read", || reader.stdout_len() == 12);
    second.end_input();
    assert_eq!(reader.finish().exits(0).stdout, b"first second");
}

#[test]
fn a_stream_for_which_there_is_no_memory_is_refused_and_others_go_on() {
    let owner = Daemon::with_http();
    let mount = format!(
        "[limits]\nmax_memory = \"8MB\"\n[mounts.edge]\npath = \"/edge\"\nurl = \"{}\"\n",
        owner.url("/streamfs")
    );
    let edge = Daemon::with_config(&mount);
    let data = noise(11, 2_000_000);
    let read = |number: u32| {
        owner.append(&format!("/streamfs/{number}"), &*data);
        edge.pfs(["cat", "--stream", "--until", "caught-up", &format!("/edge/{number}")]).run()
    };
    assert_eq!(digest(&read(0).exits(0).stdout), digest(&data));
    let refused = (1..9).map(read).find(|run| run.code != 0).expect("no memory is left");
    refused.exits(1).says("cannot replicate /edge/");
    // A replica is not lost with the daemon: its stream is elsewhere.
    edge.pfs(["stop", "--if-idle"]).run().exits(0);
}

#[test]
fn streams_are_created_closed_and_removed_at_the_owner() {
    let (owner, edge) = owner_and_edge(Transport::Shm);
    let create = ["create", "--ring-buffer-size", "1MB", "--content-type", "text/csv", EDGE];
    edge.pfs(create).run().exits(0).quietly();
    let stat = owner.stat(S).unwrap();
    assert_eq!(
        (&stat["ring_buffer_size"], &stat["content_type"]),
        (&1_048_576.into(), &"text/csv".into())
    );
    edge.pfs(["create", EDGE]).run().exits(9).says("/streamfs/s").says("at the owner of /edge");
    edge.pfs(["close", EDGE]).run().exits(0).quietly();
    assert_eq!(owner.stat(S).unwrap()["state"], "closed");
    edge.pfs(["rm", EDGE]).run().exits(0).quietly();
    edge.pfs(["rm", EDGE]).run().exits(3);
    assert_eq!(owner.stat(S), None);
    for name in ["x/1", "x/2", "y"] {
        owner.append(&format!("/streamfs/{name}"), b"z");
    }
    edge.pfs(["rm", "-r", "/edge/x"]).run().exits(0).says("removed 2 streams");
    assert_eq!(owner.pfs(["ls"]).run().exits(0).text(), "/streamfs/y\n");
}

#[test]
fn a_body_is_passed_on_to_the_owner() {
    let (owner, edge) = owner_and_edge(Transport::Http);
    let data = noise(6, 500_000);
    let mut http = edge.http();
    http.request("PUT", EDGE, &[("content-type", "video/mp2t")], Some(&data));
    let told = http.response().has(201);
    assert_eq!(told.header("pfs-offset"), Some("500000"));
    http.request("POST", &format!("{EDGE}?close"), &[], Some(b"the end"));
    http.response().has(200);
    let stat = owner.stat(S).unwrap();
    assert_eq!((&stat["content_type"], &stat["head"]), (&"video/mp2t".into(), &500_007.into()));
    assert_eq!(owner.get(&format!("{S}?from=0")).has(200).body, [&data[..], b"the end"].concat());
    http.request("POST", EDGE, &[], Some(b"too late"));
    assert!(http.response().has(409).text().contains("closed"));
    // A refused body ends its connection.
    let mut http = edge.http();
    http.request("PUT", &format!("{EDGE}?create"), &[], Some(b""));
    http.response().has(409);
    http.request("PUT", EDGE, &[("if-match", "\"x\"")], Some(b"x"));
    http.response().has(400);
    let mut http = edge.http();
    http.request("DELETE", EDGE, &[], None);
    http.response().has(204);
    assert_eq!(owner.stat(S), None);
}

#[test]
fn a_read_only_mount_changes_nothing_at_the_owner() {
    let owner = Daemon::with_http();
    let mount = format!("url = \"{}/streamfs\"\nread_only = true\n", owner.url(""));
    let edge = Daemon::with_http_config(&format!("[mounts.edge]\npath = \"/edge\"\n{mount}"));
    owner.append(S, b"kept");
    let told = "cannot change /edge/s: /edge is mounted read-only";
    edge.pfs(["write", "--stream", EDGE]).stdin(b"x").run().exits(1).says(told);
    for command in [["create", "/edge/new"], ["close", EDGE], ["rm", EDGE]] {
        edge.pfs(command).run().exits(1).says("/edge is mounted read-only");
    }
    edge.pfs(["write", "/edge/new"]).stdin(b"x").run().exits(1).says("mounted read-only");
    for (method, path) in [("POST", EDGE), ("PUT", "/edge/new"), ("DELETE", EDGE)] {
        let mut http = edge.http();
        http.request(method, path, &[], Some(b"x"));
        assert!(http.response().has(403).text().contains("/edge is mounted read-only"));
    }
    assert_eq!(read(&edge, []).0, b"kept");
    assert_eq!(owner.pfs(["ls"]).run().exits(0).text(), format!("{S}\n"));
    assert_eq!(owner.stat(S).unwrap()["state"], "open");
}

#[test]
fn an_append_whose_acknowledgement_is_lost_is_reported_as_unknown() {
    let owner = Daemon::with_http();
    let link = Link::to(owner.http_address(), "");
    let edge = edge(Transport::Shm, &link.url());
    let mut writer = edge.pfs(["write", "--stream", EDGE]).stdin_pipe().spawn();
    writer.send(b"acknowledged");
    eventually("it is there", || owner.head(S) == 12);
    link.stall(Some(Direction::ToClient));
    writer.send(b" perhaps");
    eventually("that is there, too", || owner.head(S) == 20);
    link.cut();
    link.stall(None);
    let lost = writer.finish_with_input().exits(5);
    lost.says("what was not acknowledged may or may not be in the stream");
    // The owner was told of no end.
    eventually("the writer has died", || owner.stat_number(S, "writers_died") == 1);
}

#[test]
fn a_removed_stream_is_removed_here_and_a_new_one_is_another() {
    let (owner, edge) = owner_and_edge(Transport::Shm);
    owner.append(S, b"old");
    let reader = edge.reader(EDGE, []);
    eventually("it is read", || reader.stdout_len() == 3);
    owner.pfs(["rm", S]).run().exits(0);
    reader.finish().exits(7).says("removed");
    owner.append(S, b"new stream");
    assert_eq!(read(&edge, []).0, b"new stream");
    // A closed stream whose link has ended is found anew when another one took its place.
    owner.close(S);
    assert_eq!(edge.pfs(["cat", "--stream", EDGE]).run().exits(0).stdout, b"new stream");
    owner.pfs(["rm", S]).run().exits(0);
    owner.append(S, b"third");
    assert_eq!(read(&edge, []).0, b"third");
}

#[test]
fn a_stream_that_was_closed_as_failed_is_failed_here() {
    let (owner, edge) = owner_and_edge(Transport::Shm);
    owner.append(S, b"half");
    let reader = edge.reader(EDGE, []);
    owner.pfs(["close", "--failed", S]).run().exits(0);
    assert_eq!(reader.finish().exits(8).stdout, b"half");
}

#[test]
fn a_restarted_owner_has_other_streams_and_readers_are_told() {
    let mut owner = Daemon::with_http();
    let edge = edge(Transport::Shm, &owner.url(""));
    owner.append(S, b"before");
    let reader = edge.reader(EDGE, []);
    eventually("it is read", || reader.stdout_len() == 6);
    owner.kill9();
    let error = edge.pfs(["stat", EDGE]).run().exits(5);
    error.says("the daemon that owns /edge cannot be reached");
    edge.append("/streamfs/here", b"local");
    let listed = edge.pfs(["ls"]).run().exits(5).says("the daemon that owns /edge");
    assert_eq!(listed.text(), "/streamfs/here\n");
    edge.pfs(["cat", "--stream", "/edge/other"]).run().exits(5).says("cannot be reached");
    owner.restart();
    reader.finish().exits(7);
    owner.append(S, b"after");
    eventually("the new stream is found", || {
        edge.pfs(["cat", "--stream", "--until", "caught-up", EDGE]).run().stdout == b"after"
    });
}

#[test]
fn a_token_of_a_client_is_not_passed_on_and_the_mount_has_its_own() {
    let tokens = tempfile::tempdir().unwrap();
    let (all, own) = (tokens.path().join("tokens"), tokens.path().join("own"));
    let (token, of_client) = ("token-of-the-mount", "token-of-the-client");
    std::fs::write(&all, format!("{token} read\n")).unwrap();
    std::fs::write(&own, token).unwrap();
    let owner = Daemon::with_http_config(&format!("[auth]\ntoken_file = \"{}\"\n", all.display()));
    owner.append(S, b"secret");
    let mount = |token: &str| {
        let url = owner.url("/streamfs");
        Daemon::with_config(&format!("[mounts.edge]\npath = \"/edge\"\nurl = \"{url}\"\n{token}"))
    };
    let refused = mount("").pfs(["cat", "--stream", EDGE]).env("PFS_TOKEN", of_client).run();
    refused.exits(1).says("the daemon that owns /edge refuses this daemon");
    let shown = mount("").pfs(["info"]).run().exits(0);
    assert!(shown.text().contains("does not answer: the daemon that owns /edge refuses this"));
    let file = format!("token_file = \"{}\"\n", own.display());
    assert_eq!(read(&mount(&file), []).0, b"secret");
    let missing = format!("token_file = \"{}\"\n", tokens.path().join("none").display());
    let config = tokens.path().join("config");
    let text = format!("[mounts.edge]\npath = \"/edge\"\nurl = \"{}\"\n{missing}", owner.url(""));
    std::fs::write(&config, text).unwrap();
    let check = harness::Pfs::new(harness::binary("pfsd")).arg("--check-config").arg("--config");
    check.arg(&config).run().exits(1).says("cannot use the mount /edge");
}

#[test]
fn more_streams_are_followed_over_tls_than_one_connection_serves() {
    let authority = Authority::new("our own");
    let owner = authority.daemon("");
    let edge = Daemon::with_config(&format!(
        "[mounts.edge]\npath = \"/edge\"\nurl = \"{}\"\nca_file = {:?}\n",
        owner.url("/streamfs"),
        authority.root()
    ));
    let names: Vec<_> = (0..150).map(|number| format!("s{number}")).collect();
    let mut readers = Vec::new();
    for name in &names {
        owner.append(&format!("/streamfs/{name}"), name.as_bytes());
        let mut wire = edge.wire().greeted();
        let path = format!("/edge/{name}").parse().unwrap();
        wire.send(&Request::OpenReader(path, ReadOptions::default()));
        let told = wire.reply();
        assert!(matches!(told, Some(Reply::Reading { .. })), "{name}: {told:?}");
        readers.push(wire);
    }
    for (name, reader) in names.iter().zip(&mut readers) {
        assert_eq!(reader.reply(), Some(Reply::Data(name.clone().into())));
    }
}

#[test]
fn a_replica_that_nobody_reads_is_given_up_after_a_while() {
    let owner = Daemon::with_http();
    let url = owner.url("/streamfs");
    let mount = format!("[mounts.edge]\npath = \"/edge\"\nurl = \"{url}\"\nkeep = \"1s\"\n");
    let edge = Daemon::with_config(&mount);
    owner.append(S, b"contents");
    let reader = edge.reader(EDGE, []);
    eventually("it is read", || reader.stdout_len() == 8);
    assert_eq!(owner.stat(S).unwrap()["readers"].as_array().unwrap().len(), 1);
    reader.signal(Signal::TERM);
    reader.finish().exits(143);
    eventually("the link is gone", || owner.stat(S).unwrap()["readers"] == serde_json::json!([]));
    assert_eq!(read(&edge, []).0, b"contents");
}

#[test]
fn the_first_owner_that_answers_is_used() {
    let owner = Daemon::with_http();
    owner.append(S, b"from the second");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = format!("[\"http://{nobody}/streamfs\", \"{}\"]", owner.url("/streamfs"));
    let edge = Daemon::with_config(&format!("[mounts.edge]\npath = \"/edge\"\nurl = {urls}\n"));
    assert_eq!(read(&edge, []).0, b"from the second");
}

#[test]
fn mounts_of_mounts_pass_everything_on() {
    let owner = Daemon::with_http();
    let middle = edge(Transport::Shm, &owner.url(""));
    let url = middle.url("/edge");
    let far = Daemon::with_config(&format!("[mounts.far]\npath = \"/far\"\nurl = \"{url}\"\n"));
    let data = noise(9, 1_000_000);
    owner.append(S, &*data);
    let reader = far.reader("/far/s", []);
    eventually("it is read", || reader.stdout_len() == data.len() as u64);
    owner.append(S, b"live");
    owner.close(S);
    let read = reader.finish().exits(0).quietly();
    assert_eq!(digest(&read.stdout), digest(&[&data[..], b"live"].concat()));
}

#[test]
fn mounts_that_form_a_loop_are_refused_with_the_list() {
    let mount =
        |path: &str, url: &str| format!("[mounts.{path}]\npath = \"/{path}\"\nurl = \"{url}\"\n");
    let mut first = Daemon::with_http();
    let second = Daemon::with_http_config(&mount("b", &first.url("/a")));
    let third = Daemon::with_http_config(&mount("c", &second.url("/b")));
    // Before there is a loop, the second daemon talks to the first one, which has no such mount.
    third.pfs(["ls", "/c"]).run().exits(2).says("/a is outside the mount");
    let closing = format!("{}{}", mount("a", &third.url("/c")), mount("own", &third.url("")));
    first.reload(&closing);
    first.kill9();
    first.restart();
    let list = |from: &str| {
        let hop = |path: &str, url: &str| format!("/{path}={url}");
        let all =
            [hop("a", &third.url("/c")), hop("c", &second.url("/b")), hop("b", &first.url("/a"))];
        let begin = all.iter().position(|hop| hop.starts_with(from)).unwrap();
        [&all[begin..], &all[..begin]].concat().join(", ")
    };
    for (daemon, path) in [(&first, "/a"), (&second, "/b"), (&third, "/c")] {
        let stream = format!("{path}/s");
        for args in [
            ["cat", "--stream"],
            ["write", "--stream"],
            ["stat", "--json"],
            ["ls", "--json"],
            ["rm", "--recursive"],
        ] {
            let target = if args[0] == "ls" { path } else { &stream };
            let run = daemon.pfs(args).arg(target).stdin("x").run().exits(1);
            assert!(run.stderr.contains("the mounts form a loop"), "{args:?}: {}", run.stderr);
        }
        let run = daemon.pfs(["cat", "--stream", &stream]).run();
        assert!(run.stderr.contains(&list(path)), "{path}: {}", run.stderr);
    }
    // Daemons that mount each other's own streams form no loop.
    third.append("/streamfs/s", b"of the third");
    let read = first.pfs(["cat", "--stream", "--until", "caught-up", "/own/s"]).run().exits(0);
    assert_eq!(read.stdout, b"of the third");
}
