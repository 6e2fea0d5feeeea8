//! Clients that speak badly: they get an error or are hung up on, and the daemon goes on as before.

use bytes::Bytes;
use harness::{Daemon, noise};
use pfs_proto::{ErrorCode, Hello, ReadOptions, Reply, Request, VERSION, WriteOptions};

const S: &str = "/streamfs/s";

/// How much a daemon's memory may move while nothing of it should be kept.
const FLAT: u64 = 8 << 20;

fn frame(len: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], &[kind], payload].concat()
}

#[track_caller]
fn goes_on(mut daemon: Daemon, before: u64) {
    assert!(daemon.runs(), "the daemon ended: {}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let after = daemon.memory();
    assert!(after < before + FLAT, "the daemon grew from {before} to {after}");
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all");
}

#[test]
fn frames_that_are_none_are_a_protocol_error() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    let bad = [
        ("a frame that claims 4 GiB", frame(u32::MAX, 0x02, b"")),
        ("a frame one byte over the limit", frame((1 << 20) + 1, 0x10, b"")),
        ("an unknown kind", frame(0, 0x7f, b"")),
        ("a reply where a request is due", frame(0, 0x82, b"")),
        ("a message cut short inside its frame", frame(2, 0x02, &[200, 0])),
        ("a message with more behind it", frame(1, 0x0a, &[0])),
        ("a path that is no UTF-8", frame(4, 0x06, &[2, 0, 0xff, 0xfe])),
        ("a path that is none", frame(5, 0x06, &[3, 0, b'a', b'/', b'b'])),
        ("an append without a writer", frame(1, 0x10, b"x")),
        ("a finish without a writer", frame(1, 0x12, &[0])),
    ];
    for (what, bytes) in &bad {
        let mut wire = daemon.wire().greeted();
        // After a bad path the daemon would listen on: it is a failed request, not a broken protocol.
        wire.send(bytes).end_output();
        let refusal = wire.refusal();
        let expected = [Some(ErrorCode::Protocol), Some(ErrorCode::BadPath)];
        assert!(expected.contains(&refusal), "{what}: {refusal:?}");
    }
    for (what, bytes) in &bad {
        let mut wire = daemon.wire();
        wire.send(bytes);
        assert!(wire.refusal().is_some(), "{what} in place of hello");
    }
    assert!(daemon.streams().is_empty());
    goes_on(daemon, before);
}

#[test]
fn frames_that_end_in_the_middle_are_dropped_with_their_connection() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    let create = Request::Create("/streamfs/never".parse().unwrap(), Default::default());
    for missing in [1, 5, 10] {
        daemon.wire().greeted().request_without_end(&create, missing);
        let mut half = daemon.wire().greeted();
        half.request_without_end(&create, missing).end_output();
        while half.reply().is_some() {}
    }
    assert!(daemon.streams().is_empty());
    goes_on(daemon, before);
}

#[test]
fn a_client_of_the_next_protocol_version_is_refused_as_that() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    let mut wire = daemon.wire();
    wire.request(&Request::Hello(Hello {
        min_version: VERSION + 1,
        max_version: VERSION + 7,
        capabilities: 0,
    }));
    assert_eq!(wire.refusal(), Some(ErrorCode::Version));
    // One that speaks both is served in the one that we have.
    let mut wire = daemon.wire();
    wire.request(&Request::Hello(Hello { min_version: 0, max_version: VERSION + 7, capabilities: u64::MAX }));
    let Some(Reply::Hello(hello)) = wire.reply() else { panic!("no hello") };
    assert_eq!((hello.min_version, hello.max_version), (VERSION, VERSION));
    goes_on(daemon, before);
}

#[test]
fn whoever_connects_and_says_nothing_is_hung_up_on() {
    let daemon = Daemon::start();
    let mut silent = daemon.wire();
    let mut half = daemon.wire();
    half.send(&[12, 0]);
    for wire in [&mut silent, &mut half] {
        let refusal = wire.refusal();
        assert!([None, Some(ErrorCode::Timeout)].contains(&refusal), "{refusal:?}");
    }
    // Readers and writers may be silent for as long as they like; that is another matter.
    assert_eq!(daemon.pfs(["ls", "/streamfs"]).run().exits(0).text(), "");
}

#[test]
fn a_writer_s_chunk_of_endless_parts_is_refused_before_it_fills_the_memory() {
    let daemon = Daemon::with_buffers(1 << 20, 1 << 20);
    let before = daemon.memory();
    let mut wire = daemon.wire().greeted();
    wire.request(&Request::OpenWriter("/streamfs/parts".parse().unwrap(), WriteOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Writing { max_chunk }) if max_chunk == 1 << 20));
    let part = Request::AppendPart(Bytes::from(noise(1, 1 << 20)));
    for _ in 0..64 {
        wire.request(&part);
    }
    // Writing into a connection that was hung up on may lose the error; the daemon must not keep the data.
    let refusal = wire.refusal();
    assert!([None, Some(ErrorCode::TooLarge)].contains(&refusal), "{refusal:?}");
    assert_eq!(daemon.head("/streamfs/parts"), 0);
    goes_on(daemon, before + (2 << 20));
}

#[test]
fn a_reader_that_takes_nothing_costs_the_daemon_nothing() {
    let daemon = Daemon::with_buffers(1 << 20, 1 << 20);
    daemon.pfs(["write", "--stream", "/streamfs/much"]).stdin(noise(2, 2 << 20)).run().exits(0);
    let before = daemon.memory();
    let mut lazy: Vec<_> = (0..20).map(|_| daemon.wire().greeted()).collect();
    for wire in &mut lazy {
        wire.request(&Request::OpenReader("/streamfs/much".parse().unwrap(), ReadOptions::default()));
    }
    daemon.pfs(["write", "--stream", "/streamfs/much"]).stdin(noise(3, 32 << 20)).run().exits(0);
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 20 * (1 << 20) + FLAT, "20 readers that read nothing cost {grown} bytes");
    drop(lazy);
    daemon.has_readers("/streamfs/much", 0);
}

#[test]
fn garbage_does_nothing() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    for seed in 0..200_u64 {
        let mut garbage = noise(seed, 1 + (seed as usize * 37) % 3_000);
        let mut wire = daemon.wire();
        if seed % 2 == 0 {
            wire = wire.greeted();
            // A length that could be one, and a kind that exists, so that more than the first check is tried.
            let len = (garbage.len() as u32).saturating_sub(5);
            let kinds = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x10, 0x11, 0x12];
            if garbage.len() > 5 {
                garbage[..4].copy_from_slice(&len.to_le_bytes());
                garbage[4] = kinds[seed as usize / 2 % kinds.len()];
            }
        }
        wire.send(&garbage).end_output();
        while wire.reply().is_some() {}
    }
    assert!(daemon.streams().is_empty());
    goes_on(daemon, before);
}

#[test]
fn a_thousand_connections_that_come_and_go_leave_nothing() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    for _ in 0..10 {
        let wires: Vec<_> = (0..100).map(|_| daemon.wire().greeted()).collect();
        drop(wires);
    }
    goes_on(daemon, before);
}
