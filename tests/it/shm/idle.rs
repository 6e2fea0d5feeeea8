//! Cost of idle readers.

use std::time::Duration;

use harness::{Daemon, Running, Transport, Wire, eventually, eventually_rest};
use pfs_proto::ReadOptions;

use super::{S, handed};

/// During this time no process may run, except that shm readers check their ring buffer.
const REST: Duration = Duration::from_secs(2);

#[test]
fn idle_readers_wake_once_a_second_at_most_and_the_daemon_does_not() {
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
    let looks = |transport| u64::from(transport == Transport::Shm);
    let readers_looks =
        readers.iter().zip(ways).map(|(reader, transport)| (reader.pid(), looks(transport)));
    let processes: Vec<_> = readers_looks.chain([(writer.pid(), 0), (daemon.pid(), 0)]).collect();
    eventually_rest(&processes, REST);
    // The readers are asleep, not dead.
    writer.send(b"!");
    eventually("all have read that too", || readers.iter().all(|reader| reader.stdout_len() == 15));
}

#[test]
fn an_idle_shm_reader_costs_the_daemon_at_most_16_kib() {
    const READERS: u64 = 200;
    const EACH: u64 = 16 * 1024;
    let daemon = Daemon::start();
    daemon.append(S, "so far");
    let open = || handed(&daemon, S, ReadOptions::default()).wire;
    // The first readers allocate memory that is needed only once.
    let _first: Vec<Wire> = (0..20).map(|_| open()).collect();
    let before = daemon.memory();
    let _readers: Vec<Wire> = (0..READERS).map(|_| open()).collect();
    assert_eq!(daemon.readers(S) as u64, READERS + 20);
    let each = daemon.memory().saturating_sub(before) / READERS;
    assert!(each <= EACH, "{each} bytes for each idle reader");
}
