//! What readers cost that have nothing to read.

use std::time::{Duration, Instant};

use harness::{Daemon, Running, Transport, Wire, eventually, wake_ups};
use pfs_proto::ReadOptions;

use super::{S, handed};

/// Nobody may run for this long.
const REST: Duration = Duration::from_secs(1);

#[test]
fn idle_readers_use_no_processor_and_neither_does_the_daemon() {
    let daemon = Daemon::start();
    daemon.append(S, "so far");
    let ways = [Transport::Shm, Transport::Shm, Transport::Unix, Transport::Shm];
    let policies = ["drop", "block", "block", "disconnect"];
    let readers: Vec<Running> = ways
        .iter()
        .zip(policies)
        .map(|(transport, policy)| daemon.reader_on(*transport, S, ["--slow", policy]))
        .collect();
    let mut writer = daemon.pfs_on(Transport::Shm, ["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b", and on");
    eventually("all have read all", || readers.iter().all(|reader| reader.stdout_len() == 14));
    let pids: Vec<u32> = readers.iter().map(Running::pid).chain([writer.pid(), daemon.pid()]).collect();
    let all_wake_ups = || pids.iter().map(|pid| wake_ups(*pid)).collect::<Vec<_>>();
    let (mut before, mut since) = (all_wake_ups(), Instant::now());
    eventually("nobody has run for a whole second", || {
        let now = all_wake_ups();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() >= REST
    });
    assert!(
        before.iter().all(|wake_ups| *wake_ups > 0),
        "the figures are not what they should be: {before:?}"
    );
    // And they sleep, rather than being dead.
    writer.send(b"!");
    eventually("all have read that too", || readers.iter().all(|reader| reader.stdout_len() == 15));
}

#[test]
fn an_idle_mapped_reader_costs_the_daemon_at_most_16_kib() {
    const READERS: u64 = 200;
    const EACH: u64 = 16 << 10;
    let daemon = Daemon::start();
    daemon.append(S, "so far");
    let open = || handed(&daemon, S, ReadOptions::default()).wire;
    // The first ones bring what is needed once.
    let _first: Vec<Wire> = (0..20).map(|_| open()).collect();
    let before = daemon.memory();
    let _readers: Vec<Wire> = (0..READERS).map(|_| open()).collect();
    assert_eq!(daemon.readers(S) as u64, READERS + 20);
    let each = daemon.memory().saturating_sub(before) / READERS;
    assert!(each <= EACH, "{each} bytes for each idle reader");
}
