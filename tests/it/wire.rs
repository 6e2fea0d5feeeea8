//! Invalid protocol input costs the daemon no memory, and the daemon goes on as before.
//! `pfsd/tests/daemon/protocol.rs` tests the errors.

use bytes::Bytes;
use harness::{Daemon, noise};
use pfs_proto::{ErrorCode, ReadOptions, Reply, Request, WriteOptions};

const S: &str = "/streamfs/s";

/// How much a daemon's memory may change if nothing is kept.
const FLAT: u64 = 8 * 1024 * 1024;

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
fn a_writer_s_chunk_of_endless_parts_is_refused_before_it_fills_the_memory() {
    let daemon = Daemon::with_buffers(1024 * 1024, 1024 * 1024);
    let before = daemon.memory();
    let mut wire = daemon.wire().greeted();
    wire.send(&Request::OpenWriter("/streamfs/parts".parse().unwrap(), WriteOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Writing { max_chunk }) if max_chunk == 1024 * 1024));
    let part = Request::AppendPart(Bytes::from(noise(1, 1024 * 1024)));
    for _ in 0..64 {
        wire.send(&part);
    }
    // Writing to a closed connection may lose the error, but the daemon must not keep the data.
    let refusal = wire.refusal();
    assert!([None, Some(ErrorCode::TooLarge)].contains(&refusal), "{refusal:?}");
    assert_eq!(daemon.head("/streamfs/parts"), 0);
    goes_on(daemon, before + (2 * 1024 * 1024));
}

#[test]
fn a_reader_that_takes_nothing_costs_the_daemon_nothing() {
    let daemon = Daemon::with_buffers(1024 * 1024, 1024 * 1024);
    daemon
        .pfs(["write", "--stream", "/streamfs/much"])
        .stdin(noise(2, 2 * 1024 * 1024))
        .run()
        .exits(0);
    let before = daemon.memory();
    let mut lazy: Vec<_> = (0..20).map(|_| daemon.wire().greeted()).collect();
    for wire in &mut lazy {
        wire.send(&Request::OpenReader("/streamfs/much".parse().unwrap(), ReadOptions::default()));
    }
    daemon
        .pfs(["write", "--stream", "/streamfs/much"])
        .stdin(noise(3, 32 * 1024 * 1024))
        .run()
        .exits(0);
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 20 * (1024 * 1024) + FLAT, "20 readers that read nothing cost {grown} bytes");
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
            // A plausible length and an existing kind, so that the garbage gets past the
            // first check.
            let len = (garbage.len() as u32).saturating_sub(5);
            let kinds =
                [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x10, 0x11, 0x12];
            if garbage.len() > 5 {
                garbage[..4].copy_from_slice(&len.to_le_bytes());
                garbage[4] = kinds[seed as usize / 2 % kinds.len()];
            }
        }
        wire.send_bytes(&garbage).end_output();
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
