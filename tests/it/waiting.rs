//! Readers of streams that do not exist yet, and writers that wait for readers.

use harness::{Daemon, Running, Signal, Transport, digest, eventually, gaps, noise};

const S: &str = "/streamfs/s";

harness::per_transport! {
    waiting_readers_are_attached_before_the_first_byte,
    waiting_readers_that_want_only_the_new_get_everything,
    a_writer_waits_for_as_many_readers_as_it_was_told,
    a_client_that_waits_names_its_daemon,
}

#[test]
fn a_mistyped_name_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let mut reader = daemon.pfs(["cat", "--stream", "/streamfs/typo"]).spawn();
    eventually("it says that it waits, and for what", || {
        reader.stderr().contains("/streamfs/typo")
    });
    assert!(reader.runs());
    assert!(daemon.streams().is_empty());
    daemon.pfs(["stat", "/streamfs/typo"]).run().exits(3);
    reader.signal(Signal::INT);
    reader.finish().exits(130);
    assert!(daemon.streams().is_empty());
}

#[test]
fn a_pattern_is_not_waited_for_and_a_name_that_looks_like_one_is_read() {
    let daemon = Daemon::start();
    for pattern in ["/streamfs/*", "/streamfs/cam?", "/streamfs/[a-z]"] {
        daemon.pfs(["cat", "--stream", pattern]).run().exits(3).says("not a pattern");
        daemon.pfs(["write", "--close", pattern]).stdin("data").run().exits(0);
        assert_eq!(daemon.pfs(["cat", "--stream", pattern]).run().exits(0).text(), "data");
    }
}

fn waiting_readers_are_attached_before_the_first_byte(transport: Transport) {
    let daemon = transport.daemon_with_buffers(256 * 1024, 256 * 1024);
    let start = |_| daemon.pfs(["cat", "--stream", "--slow", "block", S]).spawn();
    let readers: Vec<Running> = (0..4).map(start).collect();
    for reader in &readers {
        eventually("it says that it waits", || reader.stderr().contains(S));
    }
    // Sixteen times the ring buffer: a reader that attached after the first chunks would miss them.
    let data = noise(1, 4 * 1024 * 1024);
    daemon.pfs(["write", "--stream", "--close", S]).stdin(&data[..]).run().exits(0);
    for reader in readers {
        assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
    }
}

fn waiting_readers_that_want_only_the_new_get_everything(transport: Transport) {
    let daemon = transport.daemon();
    let reader = daemon.pfs(["cat", "--stream", "--new", S]).spawn();
    eventually("it says that it waits", || reader.stderr().contains(S));
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    assert_eq!(reader.finish().exits(0).text(), "all");
}

fn a_writer_waits_for_as_many_readers_as_it_was_told(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer =
        daemon.pfs(["write", "--stream", "--close", "--wait-readers", "2", S]).stdin("all").spawn();
    eventually("the stream exists", || daemon.stat(S).is_some());
    let one = daemon.reader(S, []);
    assert_eq!(daemon.head(S), 0);
    assert!(writer.runs());
    let two = daemon.pfs(["cat", "--stream", S]).spawn();
    writer.finish().exits(0);
    assert_eq!(one.finish().exits(0).text(), "all");
    assert_eq!(two.finish().exits(0).text(), "all");
}

fn a_client_that_waits_names_its_daemon(transport: Transport) {
    let daemon = transport.daemon();
    let place = match transport {
        Transport::Shm | Transport::Unix => format!("on {}", daemon.socket().display()),
        Transport::Http => format!("at {}", daemon.url("")),
    };
    let reader = daemon.pfs(["cat", "--stream", "/streamfs/mistyped"]).spawn();
    let waiting = format!("waiting for /streamfs/mistyped to be created {place}; pfs ls");
    eventually("the reader says where it waits", || reader.stderr().contains(&waiting));
    let writer = daemon.pfs(["write", "--wait-readers", "2", S]).stdin("all").spawn();
    let waiting = format!("waiting for readers of {S} {place}, 2 in all; pfs stat {S}");
    eventually("the writer says where it waits", || writer.stderr().contains(&waiting));
    // A missing stream may be at another daemon.
    daemon.pfs(["stat", "/streamfs/mistyped"]).run().exits(3).says(&format!("({place})"));
}

#[test]
fn quiet_readers_say_nothing_but_losses() {
    let daemon = Daemon::with_buffers(10_000, 10_000);
    let quiet = daemon.pfs(["-q", "cat", "--stream", S]).spawn();
    let other = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("the other one says that it waits", || other.stderr().contains(S));
    daemon.pfs(["write", "--stream", "--close", S]).stdin("all").run().exits(0);
    quiet.finish().exits(0).quietly();
    other.finish().exits(0);

    let file = daemon.dir().join("data");
    std::fs::write(&file, noise(2, 100_000)).unwrap();
    let write = daemon.pfs(["write", "--stream", "--close", "--chunk-size", "1000", "/streamfs/t"]);
    write.stdin_file(&file).run().exits(0);
    let lossy =
        daemon.pfs(["-q", "cat", "--stream", "--offset", "0", "/streamfs/t"]).run().exits(4);
    assert_eq!(gaps(&lossy.stderr).len(), 1, "{}", lossy.stderr);
}
