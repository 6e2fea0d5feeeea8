//! Limits: at a limit new requests are refused, and running streams notice nothing.

use harness::{
    Daemon, Pfs, Running, Transport, binary, digest, eventually, limit_file_size, noise, own,
    raise_file_limit,
};
use pfs_proto::{CreateOptions, ErrorCode, Hello, ReadOptions, Reply, Request};
use rustix::process::getuid;

const S: &str = "/streamfs/s";

harness::per_transport! {
    no_more_connections_than_allowed,
}

/// Writer and reader of a running stream, which go on while something else happens.
pub(crate) struct Pair {
    writer: Running,
    reader: Running,
    sent: Vec<u8>,
}

impl Pair {
    pub(crate) fn start(daemon: &Daemon) -> Self {
        let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
        writer.send(b"first");
        eventually("it runs", || daemon.head(S) == 5);
        Self { writer, reader: daemon.reader(S, ["--slow", "block"]), sent: b"first".to_vec() }
    }

    pub(crate) fn goes_on(&mut self) {
        let more = noise(self.sent.len() as u64, 300_000);
        self.writer.send(&more);
        self.sent.extend(more);
        eventually("all is read", || self.reader.stdout_len() == self.sent.len() as u64);
    }

    pub(crate) fn ends(mut self) {
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
    let daemon = Daemon::with_config("[limits]\nmax_memory = \"32MB\"\n");
    let mut pair = Pair::start(&daemon);
    let big = ["create", "--reserve", "/streamfs/big", "--ring-buffer-size", "30MB"];
    daemon.pfs(big).run().exits(1).says("max_memory");
    daemon.pfs(["create", "/streamfs/huge", "--ring-buffer-size", "10000000TB"]).run().exits(2);
    pair.goes_on();
    let reserve =
        |path: &str| daemon.pfs(["create", "--reserve", path, "--ring-buffer-size", "8MB"]).run();
    for i in 1..=3 {
        reserve(&format!("/streamfs/{i}")).exits(0);
    }
    reserve("/streamfs/more").exits(1).says("max_memory");
    pair.goes_on();
    // A stream takes the memory that is left, and reports the chunk that does not fit.
    daemon.pfs(["write", "/streamfs/more"]).stdin("x").run().exits(0).quietly();
    let large = daemon.pfs(["write", "/streamfs/more"]).stdin(noise(1, 3 * 1024 * 1024)).run();
    large.exits(1).says("the memory limit leaves no room").says("max_memory");
    assert_eq!(daemon.head("/streamfs/more"), 1);
    pair.goes_on();
    daemon.remove("/streamfs/1");
    reserve("/streamfs/again").exits(0);
    pair.ends();
}

#[test]
fn a_user_gets_no_more_streams_than_the_quota() {
    let daemon = Daemon::with_config("[limits]\nmax_streams_per_user = 2\n");
    let mut pair = Pair::start(&daemon);
    daemon.create("/streamfs/2");
    let refused = format!(
        "cannot create /streamfs/3 for user {}: 2 of the 2 streams that the quota allows are taken",
        getuid().as_raw()
    );
    for transport in Transport::OF_THE_SOCKET {
        let create = daemon.pfs_on(transport, ["create", "/streamfs/3"]).run();
        create.exits(1).says(&refused).says("limits.max_streams_per_user");
        let write = daemon.pfs_on(transport, ["write", "/streamfs/3"]).stdin("x").run();
        write.exits(1).says(&refused).says("limits.max_streams_per_user");
    }
    assert_eq!(daemon.streams(), ["/streamfs/2", S]);
    // The user's existing streams accept appends and replacement.
    daemon.pfs(["write", "/streamfs/2"]).stdin("x").run().exits(0).quietly();
    daemon.pfs(["write", "--replace", "/streamfs/2"]).stdin("new").run().exits(0).quietly();
    assert_eq!(daemon.head("/streamfs/2"), 3);
    pair.goes_on();
    daemon.remove("/streamfs/2");
    daemon.create("/streamfs/3");
    pair.ends();
}

#[test]
fn a_user_gets_no_more_memory_than_the_quota() {
    let daemon = Daemon::with_config("[limits]\nmax_memory_per_user = \"15MB\"\n");
    let mut pair = Pair::start(&daemon);
    let refused = "of the 15728640 bytes that the quota allows are taken";
    let big =
        daemon.pfs(["create", "--reserve", "/streamfs/big", "--ring-buffer-size", "16MB"]).run();
    big.exits(1).says(refused).says("ask for smaller buffers").says("limits.max_memory_per_user");
    let reserve = |path: &str| daemon.pfs(["create", "--reserve", path]).run();
    reserve("/streamfs/2").exits(0);
    reserve("/streamfs/3").exits(1).says(refused);
    daemon.create("/streamfs/small");
    pair.goes_on();
    daemon.remove("/streamfs/2");
    reserve("/streamfs/3").exits(0);
    pair.ends();
}

#[test]
fn another_user_has_a_quota_of_its_own() {
    let toml = "[listen]\nsocket_mode = \"0666\"\n[limits]\nmax_streams_per_user = 1\n";
    let daemon = Daemon::with_config(toml);
    daemon.create(S);
    let Some(wire) = daemon.wire_of_nobody() else { return };
    let mut wire = wire.greeted();
    let create = |path: &str| Request::Create(path.parse().unwrap(), CreateOptions::default());
    assert_eq!(wire.send(&create("/streamfs/of-nobody")).reply(), Some(Reply::Done));
    let refused = wire.send(&create("/streamfs/more")).reply();
    let Some(Reply::Error { code: ErrorCode::Limit, message }) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("for user 65534: "), "{message}");
    daemon.remove(S);
    daemon.create("/streamfs/more");
}

#[test]
fn a_daemon_starts_under_a_file_size_limit_that_is_too_small_for_any_ring() {
    let folder = tempfile::tempdir().unwrap();
    let (pfsd, socket) = (binary("pfsd"), folder.path().join("s"));
    for arguments in [String::new(), "--check-config".to_owned()] {
        let command = format!(
            "ulimit -f 1000; exec {} --socket {} {arguments}",
            pfsd.display(),
            socket.display()
        );
        let mut daemon = Pfs::new("sh").args(["-c", &command]).spawn();
        if arguments.is_empty() {
            eventually("it serves", || daemon.stderr().contains("serving socket="));
            let pfs =
                |args: &[&str]| Pfs::new(binary("pfs")).arg("--socket").arg(&socket).args(args);
            pfs(&["write", S]).stdin(noise(1, 3_000_000)).run().exits(0).quietly();
            assert!(daemon.runs());
        } else {
            daemon.finish().exits(0);
        }
    }
}

#[test]
fn under_a_file_size_limit_the_daemon_survives_and_serves_new_streams_without_shm() {
    // The daemon's log is a file too: 64 KiB are enough for the log and too little for any
    // ring buffer.
    for limit in [64 * 1024, 0] {
        let daemon = Daemon::start();
        let mut before = Pair::start(&daemon);
        limit_file_size(daemon.pid(), limit);
        before.goes_on();
        let sent = noise(7, 3_000_000);
        daemon
            .pfs(["write", "--close", "/streamfs/new"])
            .stdin(sent.clone())
            .run()
            .exits(0)
            .quietly();
        let read = daemon.pfs(["cat", "--stream", "/streamfs/new"]).run().exits(0).quietly();
        assert_eq!(digest(&read.stdout), digest(&sent));
        // The memory of this stream is shared already, but none is left for the page of
        // another client.
        let late = daemon.reader(S, ["--tail", "5"]);
        daemon.pfs(["write", S]).stdin("again").run().exits(0).quietly();
        before.sent.extend(b"again");
        before.ends();
        assert_eq!(late.finish().exits(0).quietly().stdout.len() as u64, 10 + 300_000);
    }
}

/// Each stalled reader holds a buffer of 65 KiB. glibc by itself returned none of this memory: each
/// reader still cost the daemon 70 KiB after all had left.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_memory_of_stalled_readers_goes_back_to_the_system_when_they_have_left() {
    const EACH_WAY: u64 = 300;
    const HELD: u64 = 2 * EACH_WAY * (64 * 1024);
    /// A few buffers stay for later use, and small allocations keep pages here and there.
    const LEFT: u64 = 12 * 1024 * 1024;
    raise_file_limit();
    let daemon = Daemon::with_http();
    daemon.create(S);
    daemon.append(S, noise(1, 6 * 1024 * 1024));
    let before = own(daemon.pid());
    let over_http: Vec<_> = (0..EACH_WAY)
        .map(|_| {
            let mut reader = daemon.http();
            reader.request("GET", S, &[], None);
            reader
        })
        .collect();
    let over_the_socket: Vec<_> = (0..EACH_WAY)
        .map(|_| {
            let mut reader = daemon.wire().greeted();
            reader.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
            reader
        })
        .collect();
    eventually("each holds a buffer", || own(daemon.pid()) > before + HELD);
    drop((over_http, over_the_socket));
    eventually("their memory has gone back", || own(daemon.pid()) < before + LEFT);
}

/// The listing in this test is 7 MB: more than any kernel buffers for a socket, so the rest would
/// stay in the daemon.
#[test]
fn a_client_that_does_not_read_its_listing_costs_a_bounded_buffer() {
    const STREAMS: usize = 6000;
    const CLIENTS: u64 = 40;
    const EACH: u64 = 128 * 1024;
    raise_file_limit();
    let daemon = Daemon::with_http_config("[limits]\nmax_streams = 6000\n");
    let mut wire = daemon.wire().greeted();
    let small = CreateOptions {
        ring_buffer_size: Some(4096),
        channel_buffer_size: Some(4096),
        ..CreateOptions::default()
    };
    for number in 0..STREAMS {
        let path = format!("/streamfs/{number:01000}").parse().unwrap();
        assert_eq!(wire.send(&Request::Create(path, small.clone())).reply(), Some(Reply::Done));
    }
    // A client that reads the listing gets all of it, in order.
    let listed = daemon.get("/streamfs/").has(200).json();
    let paths: Vec<_> =
        listed.as_array().unwrap().iter().map(|stream| stream["path"].as_str().unwrap()).collect();
    assert_eq!(paths.len(), STREAMS);
    assert!(paths.is_sorted());
    assert_eq!(daemon.streams(), paths);

    let before = own(daemon.pid());
    let over_http: Vec<_> = (0..CLIENTS / 2)
        .map(|_| {
            let mut client = daemon.http();
            client.request("GET", "/streamfs/", &[], None);
            client.head().unwrap().has(200);
            client
        })
        .collect();
    let over_the_socket: Vec<_> = (0..CLIENTS / 2)
        .map(|_| {
            let mut client = daemon.wire().greeted();
            assert!(matches!(
                client.send(&Request::List("/".to_owned())).reply(),
                Some(Reply::Summary(_))
            ));
            client
        })
        .collect();
    let each = own(daemon.pid()).saturating_sub(before) / CLIENTS;
    assert!(each < EACH, "{each} bytes for each client that does not read");
    drop((over_http, over_the_socket));
}

fn no_more_connections_than_allowed(transport: Transport) {
    // The writer, the reader, the observer, and three more.
    let daemon = transport
        .daemon_with_config("[limits]\nmax_connections = 6\nmax_connections_per_address = 6\n");
    let mut pair = Pair::start(&daemon);
    let mut held = Vec::new();
    // The daemon may still count connections of earlier commands, so it may refuse some of these.
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
