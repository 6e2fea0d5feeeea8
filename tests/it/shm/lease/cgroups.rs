//! Leases of processes with little memory: all pages of a ring buffer are charged to the daemon,
//! whichever process touches them first.

use harness::{Cgroup, Daemon, Transport, digest, eventually};

use super::{Fed, MIB, holder, other, told_apart};
use crate::shm::S;

#[test]
fn a_holder_appends_to_a_ring_that_is_larger_than_its_memory_limit() {
    const RING: u64 = 32 * MIB;
    let Some(group) = Cgroup::with_memory(12 * MIB) else { return };
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, RING, RING);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    let command = daemon.pfs(["-q", "write", "--stream", "--close", S]);
    let mut writer = Fed::new(command.in_cgroup(&group));
    writer.gets_a_lease(&daemon);
    for _ in 0..2 {
        writer.give(RING as usize);
    }
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    assert_eq!(
        holder(&daemon),
        Some(u64::from(writer.running.pid())),
        "it has never lost its lease"
    );
    let data = writer.finish();
    assert_eq!(group.kills(), 0);
    assert_eq!(digest(&reader.finish().exits(0).quietly().stdout), digest(&data));
}

#[test]
fn a_daemon_with_a_low_memory_limit_grants_leases_within_it_and_no_process_is_killed() {
    const LIMIT: u64 = 48 * MIB;
    // Streams may take half of the limit: enough for the ring buffer of a lease, but not for a
    // second one of that size.
    const RING: u64 = 12 * MIB;
    let Some(group) = Cgroup::with_memory(LIMIT) else { return };
    let mut daemon = Daemon::in_cgroup(&group);
    let reserve =
        daemon.pfs(["create", "--reserve", "--ring-buffer-size", "40MB", "/streamfs/large"]);
    reserve.run().exits(1).says("max_memory");
    daemon.create_with_buffers(S, RING, RING);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    // In the same group, so that the OOM killer may end the holder as well as the daemon.
    let command = daemon.pfs(["-q", "write", "--stream", "--close", S]);
    let mut writer = Fed::new(command.in_cgroup(&group));
    writer.gets_a_lease(&daemon);
    let mut others = Vec::new();
    for round in 0..3 {
        writer.give(RING as usize);
        let bytes = other(round, 1000);
        // This append ends the lease. The memory suffices for a smaller ring buffer.
        daemon.append(S, bytes.clone());
        assert!(daemon.stat_number(S, "memory") <= LIMIT / 2, "{}", daemon.stat(S).unwrap());
        others.extend(bytes);
    }
    writer.give(RING as usize);
    eventually("all is there", || daemon.head(S) == (writer.given.len() + others.len()) as u64);
    assert!(daemon.runs());
    let data = writer.finish();
    let (own, others_read) = told_apart(&reader.finish().exits(0).quietly().stdout);
    assert_eq!((digest(&own), digest(&others_read)), (digest(&data), digest(&others)));
    assert_eq!(group.kills(), 0);
}

#[test]
fn a_ring_beyond_the_memory_limit_is_never_leased_and_the_history_is_shorter() {
    const RING: u64 = 40 * MIB;
    let Some(group) = Cgroup::with_memory(48 * MIB) else { return };
    let daemon = Daemon::in_cgroup(&group);
    daemon.create_with_buffers(S, RING, RING);
    let command = daemon.pfs(["-q", "write", "--stream", "--close", S]);
    let mut writer = Fed::new(command.in_cgroup(&group));
    for _ in 0..8 {
        writer.give(8 * MIB as usize);
        assert_eq!(holder(&daemon), None);
    }
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    let data = writer.finish();
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly().stdout;
    assert!(!read.is_empty() && data.ends_with(&read), "{} bytes", read.len());
    assert_eq!(group.kills(), 0);
}
