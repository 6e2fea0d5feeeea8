//! Limits that are reached: what is new is refused, what runs does not notice.

use harness::{Daemon, Running, Transport, digest, eventually, limit_file_size, noise};
use pfs_proto::{Hello, Reply, Request};

const S: &str = "/streamfs/s";

harness::per_transport! {
    no_more_connections_than_allowed,
}

/// A stream that runs: a writer and a reader that go on while something else happens.
struct Pair {
    writer: Running,
    reader: Running,
    sent: Vec<u8>,
}

impl Pair {
    fn start(daemon: &Daemon) -> Self {
        let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
        writer.send(b"first");
        eventually("it runs", || daemon.head(S) == 5);
        Self { writer, reader: daemon.reader(S, ["--slow", "block"]), sent: b"first".to_vec() }
    }

    fn goes_on(&mut self) {
        let more = noise(self.sent.len() as u64, 300_000);
        self.writer.send(&more);
        self.sent.extend(more);
        eventually("all is read", || self.reader.stdout_len() == self.sent.len() as u64);
    }

    fn ends(mut self) {
        self.goes_on();
        self.writer.end_input();
        self.writer.finish().exits(0).quietly();
        assert_eq!(digest(&self.reader.finish().exits(0).quietly().stdout), digest(&self.sent));
    }
}

#[test]
fn no_more_streams_than_allowed() {
    let daemon = Daemon::with_config("[limits]\nmax_streams = 2\n");
    let mut pair = Pair::start(&daemon);
    daemon.create("/streamfs/2");
    daemon.pfs(["create", "/streamfs/3"]).run().exits(1).says("max_streams");
    daemon.pfs(["write", "/streamfs/3"]).stdin("x").run().exits(1).says("max_streams");
    pair.goes_on();
    daemon.remove("/streamfs/2");
    daemon.create("/streamfs/3");
    pair.ends();
}

#[test]
fn no_more_memory_than_allowed() {
    const LIMIT: u64 = 32 << 20;
    let daemon = Daemon::with_config("[limits]\nmax_memory = \"32MB\"\n");
    let mut pair = Pair::start(&daemon);
    daemon.pfs(["create", "/streamfs/big", "--ring-buffer-size", "30MB"]).run().exits(1).says("max_memory");
    daemon.pfs(["create", "/streamfs/huge", "--ring-buffer-size", "10000000TB"]).run().exits(2);
    pair.goes_on();
    let room = LIMIT / daemon.figure(S, "memory");
    assert!(room >= 2, "streams of {} bytes", daemon.figure(S, "memory"));
    for i in 1..room {
        daemon.create(&format!("/streamfs/{i}"));
    }
    daemon.pfs(["create", "/streamfs/more"]).run().exits(1).says("max_memory");
    daemon.pfs(["write", "/streamfs/more"]).stdin("x").run().exits(1).says("max_memory");
    pair.goes_on();
    daemon.remove("/streamfs/1");
    daemon.create("/streamfs/again");
    pair.ends();
}

#[test]
fn under_a_limit_on_file_sizes_the_daemon_lives_and_new_streams_are_served_over_connections() {
    // Its log is a file, too: 64 KiB are enough for that, and for no ring.
    for limit in [64 << 10, 0] {
        let daemon = Daemon::start();
        let mut before = Pair::start(&daemon);
        limit_file_size(daemon.pid(), limit);
        before.goes_on();
        let sent = noise(7, 3_000_000);
        daemon.pfs(["write", "--close", "/streamfs/new"]).stdin(sent.clone()).run().exits(0).quietly();
        let read = daemon.pfs(["cat", "--stream", "/streamfs/new"]).run().exits(0).quietly();
        assert_eq!(digest(&read.stdout), digest(&sent));
        if limit > 0 {
            let created = |line: &str| line.contains("stream created") && line.contains("/streamfs/new");
            let log = daemon.log();
            let line = log.lines().find(|line| created(line)).expect("the log tells of it");
            assert!(line.contains("shared=false"), "{line}");
        }
        // The memory of this stream is shared; there is no more for a page or a staging area of one more client.
        let late = daemon.reader(S, ["--tail", "5"]);
        daemon.pfs(["write", S]).stdin("again").run().exits(0).quietly();
        before.sent.extend(b"again");
        before.ends();
        assert_eq!(late.finish().exits(0).quietly().stdout.len() as u64, 10 + 300_000);
    }
}

fn no_more_connections_than_allowed(transport: Transport) {
    // The writer, the reader, the one that observes, and three more.
    let daemon =
        transport.daemon_with_config("[limits]\nmax_connections = 6\nmax_connections_per_address = 6\n");
    let mut pair = Pair::start(&daemon);
    let mut held = Vec::new();
    // Connections of the commands before may not be forgotten yet, so some of these may be refused.
    eventually("three more are held", || {
        let mut wire = daemon.wire();
        if matches!(wire.send(&Request::Hello(Hello::OURS)).reply(), Some(Reply::Hello(_))) {
            held.push(wire);
        }
        held.len() == 3
    });
    let refused = daemon.pfs(["ls", "/streamfs"]).run();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    refused.says("connections");
    pair.writer.send(b"more");
    pair.sent.extend(b"more");
    eventually("all is read", || pair.reader.stdout_len() == pair.sent.len() as u64);
    held.clear();
    eventually("there is room again", || daemon.pfs(["ls", "/streamfs"]).run().code == 0);
    pair.ends();
}
