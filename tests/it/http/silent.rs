//! Silent peers: they send and read nothing while their connection stays open. Behavior that
//! depends only on time is tested in memory, in `pfs-http`.

use std::net::SocketAddr;

use harness::{
    Daemon, HttpConnection, Pfs, Running, Signal, Transport, digest_of_stream, eventually,
    noise_file, skip,
};
use rustix::{
    io::Errno,
    net::{SocketAddrAny, getpeername, sockopt::tcp_user_timeout},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

const S: &str = "/streamfs/s";

/// Short time limits. They are still longer than any peer takes on a busy machine.
const IMPATIENT: &str = "[limits]\nbody_stall_time = \"1s\"\nheader_time = \"1s\"\nidle_time = \"1s\"\n\
    [plugins.streamfs.config]\nring_buffer_size = \"64KB\"\nchannel_buffer_size = \"64KB\"\n";

#[test]
fn a_block_reader_that_pauses_is_waited_for_and_named_and_loses_nothing() {
    paused_block_readers_are_waited_for(1);
}

/// Stops readers of every kind in the middle of a file, and continues them after the daemon has
/// closed every other kind of stalled connection `times` times. Each must get the whole file.
pub(crate) fn paused_block_readers_are_waited_for(times: usize) {
    let daemon = Daemon::with_http_config(IMPATIENT);
    let file = daemon.dir().join("data");
    noise_file(&file, 1, 32 * 1024 * 1024);
    let curl = |version: &str, path: &str| {
        daemon.curl(["-f", version], &format!("{path}?slow=block")).stdout_pipe().spawn()
    };
    let paths = ["/streamfs/one", "/streamfs/two", "/streamfs/pfs"];
    for path in paths {
        daemon.create(path);
    }
    let readers = [
        curl("--http1.1", paths[0]),
        curl("--http2-prior-knowledge", paths[1]),
        daemon.pfs_http(["cat", "--stream", "--slow", "block", paths[2]]).stdout_pipe().spawn(),
    ];
    let mut paused = Vec::new();
    for (mut reader, path) in readers.into_iter().zip(paths) {
        daemon.has_readers(path, 1);
        reader.signal(Signal::STOP);
        let writer = daemon.pfs(["write", "--stream", "--close", path]).stdin_file(&file).spawn();
        is_waited_for(&daemon, path);
        let got = reader.digest_stdout();
        paused.push((path, reader, got, writer));
    }
    everything_else_is_given_up(&daemon, times);
    let expected = digest_of_stream(std::fs::File::open(&file).unwrap());
    for (path, reader, got, writer) in paused {
        is_waited_for(&daemon, path);
        reader.signal(Signal::CONT);
        reader.finish().exits(0).quietly();
        writer.finish().exits(0).quietly();
        assert!(got.join().unwrap() == expected, "{path}: other bytes");
    }
}

#[test]
fn the_kernel_lets_http_writers_wait_for_block_readers_without_a_limit() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let reader = daemon.piped_reader_on(Transport::Http, S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    let mut writer =
        daemon.pfs_http(["write", "--stream", S]).stdin(vec![7; 32 * 1024 * 1024]).spawn();
    is_waited_for(&daemon, S);
    let Some(limits) = user_timeouts(&writer, daemon.http_address()) else {
        return skip("this process may not look at the sockets of its children (pidfd_getfd)");
    };
    assert!(!limits.is_empty(), "the writer has a connection");
    assert!(
        limits.iter().all(|limit| *limit == 0),
        "milliseconds until the system breaks it: {limits:?}"
    );
    assert!(writer.runs());
}

/// Returns `TCP_USER_TIMEOUT` of each connection of a process to this address, in milliseconds: how
/// long the kernel waits until the daemon has acknowledged sent bytes. 0 means that only the
/// kernel's own limits on retransmissions apply.
fn user_timeouts(process: &Running, daemon: SocketAddr) -> Option<Vec<u32>> {
    let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw).unwrap();
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut timeouts = Vec::new();
    for file in std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap() {
        let number = file.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let socket = match pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            // The descriptor was closed meanwhile.
            Err(Errno::BADF) => continue,
            Err(Errno::PERM | Errno::NOSYS) => return None,
            Err(error) => panic!("a descriptor of {pid:?}: {error}"),
        };
        let is_to_daemon =
            |peer: SocketAddrAny| SocketAddr::try_from(peer).is_ok_and(|peer| peer == daemon);
        if getpeername(&socket).is_ok_and(|peer| peer.is_some_and(is_to_daemon)) {
            timeouts.push(tcp_user_timeout(&socket).unwrap());
        }
    }
    Some(timeouts)
}

/// Waits until the daemon has closed, `times` times, one connection of each kind with a time
/// limit: one without a request, one that stops in its headers, and one that stops in a body of
/// known length.
#[track_caller]
fn everything_else_is_given_up(daemon: &Daemon, times: usize) {
    for _ in 0..times {
        let [mut idle, mut head, mut body] = [(); 3].map(|()| daemon.http());
        idle.request("GET", "/healthz", &[], None);
        idle.response().has(200);
        head.send(b"GET /heal");
        body.request("PUT", "/streamfs/stalled", &[("content-length", "10")], None);
        body.send(b"half");
        assert!(idle.until_hung_up().is_empty());
        head.response().has(408).refuses("too_slow");
        let message = body.response().has(408).refuses("body_stalled");
        assert!(message.contains("no part of the body arrived for 1 seconds"), "{message}");
    }
}

/// Waits until a writer waits on this stream, for its only reader.
#[track_caller]
fn is_waited_for(daemon: &Daemon, path: &str) {
    eventually("the writer waits, and it can be seen for whom", || {
        let stat = daemon.stat(path).unwrap();
        stat["writers"][0]["waiting"] == true && stat["readers"][0]["blocking"] == true
    });
}

#[test]
fn a_block_reader_that_left_without_reading_holds_nobody_up() {
    let daemon = Daemon::with_http_config(IMPATIENT);
    holds_nobody_up_once_it_is_gone(&daemon, || {
        let mut connection = daemon.http();
        connection.request("GET", "/streamfs/s?slow=block", &[], None);
        connection
    });
    // A process that is killed while it is stopped sends nothing more; its kernel closes
    // the connection.
    let stopped = |command: Pfs| {
        let reader = command.spawn();
        is_attached(&daemon);
        reader.signal(Signal::STOP);
        reader
    };
    holds_nobody_up_once_it_is_gone(&daemon, || {
        stopped(daemon.curl(["--http2-prior-knowledge"], "/streamfs/s?slow=block"))
    });
    holds_nobody_up_once_it_is_gone(&daemon, || {
        stopped(daemon.pfs_http(["cat", "--stream", "--slow", "block", S]))
    });
}

#[track_caller]
fn holds_nobody_up_once_it_is_gone<T>(daemon: &Daemon, connect: impl FnOnce() -> T) {
    daemon.create(S);
    let reader = connect();
    is_attached(daemon);
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin(vec![7; 32 * 1024 * 1024]).spawn();
    is_waited_for(daemon, S);
    assert!(writer.runs());
    drop(reader);
    writer.finish().exits(0).quietly();
    assert_eq!(daemon.head(S), 32 * 1024 * 1024);
    // The last room that the writer needs may come just before the daemon removes the reader from
    // its list.
    daemon.has_readers(S, 0);
    daemon.remove(S);
}

#[track_caller]
fn is_attached(daemon: &Daemon) {
    daemon.has_readers(S, 1);
}

#[test]
fn tcp_keepalive_checks_after_a_minute_whether_a_silent_client_is_still_there() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let mut reader = daemon.http();
    reader.request("GET", S, &[], None);
    assert_eq!(reader.head().unwrap().status, 200);
    let mut writer = daemon.http();
    writer.begin("PUT", S, &[]);
    writer.chunk(b"abc");
    assert_eq!(reader.pieces(3), b"abc");
    for client in [&reader, &writer] {
        eventually("only the timer of keepalive is left, and it is due within a minute", || {
            let [kind, left] = timer(&daemon, client);
            kind == KEEPALIVE && (1..=60 * HZ).contains(&left)
        });
    }
}

/// Timer kind of an idle connection, with nothing to send or to acknowledge.
const KEEPALIVE: u64 = 2;

/// Ticks per second of the times that the kernel reports to programs.
const HZ: u64 = 100;

/// Returns the kind of the timer of the daemon's end of a connection, and when it fires.
fn timer(daemon: &Daemon, client: &HttpConnection) -> [u64; 2] {
    let ends = [daemon.http_address(), client.stream().local_addr().unwrap()];
    let ends = ends.map(|end| format!("0100007F:{:04X}", end.port()));
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields[1..3] == ends).map(|fields| fields[5].to_owned());
    let timer = found.next_back().expect("the daemon's end of the connection");
    let (kind, due) = timer.split_once(':').unwrap();
    [kind, due].map(|number| u64::from_str_radix(number, 16).unwrap())
}
