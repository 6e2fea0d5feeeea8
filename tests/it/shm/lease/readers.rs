//! Readers of a stream whose writer has a lease.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use harness::{Daemon, Running, Signal, Transport, digest, eventually, gaps, kept, variable};
use pfs_proto::{ReadOptions, WriterStat};
use serde_json::Value;

use super::{Fed, MIB, PIECE, holder};
use crate::shm::{S, handed};

/// Capacity that holds everything the tests append, so that no reader loses bytes.
const ALL: u64 = 32 * MIB;

#[track_caller]
fn attached(daemon: &Daemon, policies: &[&str]) -> Vec<Running> {
    let each = |transport| policies.iter().map(move |policy| (transport, *policy));
    let readers = Transport::ALL.into_iter().flat_map(each);
    readers.map(|(transport, policy)| daemon.reader_on(transport, S, ["--slow", policy])).collect()
}

#[track_caller]
fn attached_on<const N: usize>(
    daemon: &Daemon,
    transport: Transport,
    policies: [&str; N],
) -> [Running; N] {
    policies.map(|policy| daemon.reader_on(transport, S, ["--slow", policy]))
}

#[test]
fn a_writer_that_appends_much_gets_a_lease_and_readers_of_every_kind_get_every_byte() {
    const PIECES: usize = 300_000;
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, ALL, ALL);
    let mut readers = attached(&daemon, &["block", "drop", "disconnect"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    let pid = writer.running.pid();
    // These readers do not end the lease.
    readers.extend(attached(&daemon, &["drop", "disconnect"]));
    assert_eq!(holder(&daemon), Some(u64::from(pid)));
    let text = daemon.pfs(["stat", S]).run().exits(0);
    let line = text.text().lines().find(|line| line.contains("appends directly, under a lease"));
    assert!(line.is_some_and(|line| line.contains(&pid.to_string())), "{}", text.text());
    let json = daemon.pfs(["stat", "--json", S]).run().exits(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["writers"][0]["leased"], &json["writers"][0]["pid"]),
        (&true.into(), &pid.into())
    );
    writer.give(PIECES);
    // These readers do.
    readers.extend(attached(&daemon, &["block"]));
    assert_eq!(holder(&daemon), None);
    writer.give(PIECES);
    writer.gets_a_lease(&daemon);
    writer.give(PIECES);
    let data = writer.finish();
    readers.extend(
        Transport::ALL.map(|transport| daemon.pfs_on(transport, ["cat", "--stream", S]).spawn()),
    );
    assert!(data.len() as u64 <= ALL, "the test has appended more than the stream holds");
    for reader in readers {
        assert_eq!(digest(&reader.finish().exits(0).quietly_read()), digest(&data));
    }
    assert_eq!(daemon.stat_number(S, "writers_finished"), 1);
}

/// Output of a run without messages.
trait QuietlyRead {
    fn quietly_read(self) -> Vec<u8>;
}

impl QuietlyRead for harness::Finished {
    fn quietly_read(self) -> Vec<u8> {
        self.quietly().stdout
    }
}

#[test]
fn stopped_drop_readers_that_a_holder_laps_report_their_gaps_to_the_byte() {
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, MIB, MIB);
    let readers = attached(&daemon, &["drop"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    for reader in &readers {
        reader.signal(Signal::STOP);
    }
    // More than sockets and pipes hold, so that each reader is lapped.
    writer.give(16 * MIB as usize);
    for reader in &readers {
        reader.signal(Signal::CONT);
    }
    let data = writer.finish();
    for reader in readers {
        let run = reader.finish().exits(4);
        let gaps = gaps(&run.stderr);
        assert!(!gaps.is_empty());
        assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
    }
}

#[test]
fn a_holder_waits_for_stopped_block_readers_and_says_so_and_nothing_is_lost() {
    for transport in Transport::ALL {
        let daemon = transport.daemon_with_http();
        daemon.create_with_buffers(S, MIB, MIB);
        let reader = daemon.reader_on(transport, S, ["--slow", "block"]);
        let mut writer =
            Fed::new(daemon.pfs_on(Transport::Shm, ["-q", "write", "--stream", "--close", S]));
        writer.gets_a_lease(&daemon);
        reader.signal(Signal::STOP);
        writer.give_meanwhile(16 * MIB as usize, |_| {
            let waits = |stat: &Value| {
                let writer = &stat["writers"][0];
                writer["waiting"] == true
                    && writer["leased"] == true
                    && stat["readers"][0]["blocking"] == true
            };
            eventually("the holder waits", || waits(&daemon.stat(S).unwrap()));
            let stat = daemon.stat(S).unwrap();
            let [head, position] = [&stat["head"], &stat["readers"][0]["position"]];
            assert!(head.as_u64().unwrap() <= position.as_u64().unwrap() + MIB, "{stat}");
            // The kernel may still enlarge the socket buffer of a reader over a connection, and the
            // holder then goes on for a moment. For an shm reader it waits for good.
            if transport == Transport::Shm {
                let text = daemon.pfs(["stat", S]).run().exits(0);
                assert!(text.text().contains("waits for a reader"), "{}", text.text());
                assert_eq!(&daemon.stat(S).unwrap()["head"], head);
            }
            reader.signal(Signal::CONT);
        });
        let data = writer.finish();
        assert_eq!(digest(&reader.finish().exits(0).quietly_read()), digest(&data));
    }
}

#[test]
fn a_holder_and_shm_block_readers_go_on_while_the_daemon_is_stopped() {
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, MIB, MIB);
    let readers = attached_on(&daemon, Transport::Shm, ["block", "block", "drop"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    writer.give(PIECE);
    eventually("the readers have come to the leased ring", || {
        let stat = daemon.stat(S).unwrap();
        let positions =
            stat["readers"].as_array().unwrap().iter().map(|reader| &reader["position"]);
        positions.into_iter().all(|position| *position == writer.given.len())
    });
    daemon.signal(Signal::STOP);
    // Sixteen times the size of the ring buffer. This call blocks while there is no room.
    writer.give(16 * MIB as usize);
    daemon.signal(Signal::CONT);
    let data = writer.finish();
    let [one, other, drop] = readers.map(Running::finish);
    for reader in [one, other] {
        assert_eq!(digest(&reader.exits(0).quietly_read()), digest(&data));
    }
    let gaps = gaps(&drop.stderr);
    assert_eq!(digest(&drop.stdout), digest(&kept(&data, 0, &gaps)));
}

#[test]
fn a_block_reader_that_joins_during_a_lease_and_is_stopped_loses_nothing() {
    for transport in Transport::ALL {
        let daemon = transport.daemon_with_http();
        daemon.create_with_buffers(S, MIB, MIB);
        let mut writer =
            Fed::new(daemon.pfs_on(Transport::Shm, ["-q", "write", "--stream", "--close", S]));
        writer.gets_a_lease(&daemon);
        writer.give(MIB as usize / 2);
        let reader = daemon.reader_on(transport, S, ["-v", "--slow", "block"]);
        reader.signal(Signal::STOP);
        writer.give_meanwhile(24 * MIB as usize, |_| {
            eventually("the writer waits", || {
                daemon.stat(S).unwrap()["writers"][0]["waiting"] == true
            });
            reader.signal(Signal::CONT);
        });
        let data = writer.finish();
        let run = reader.finish().exits(0);
        let start = start_offset(&run.stderr);
        assert_eq!(gaps(&run.stderr), []);
        assert_eq!(digest(&run.stdout), digest(&data[start..]));
    }
}

/// Counts the ring buffers of at least this size that a process maps.
fn rings(pid: u32, size: u64) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let sizes = maps.lines().filter(|line| line.contains("memfd:pfs-ring")).map(|line| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let address = |digits| u64::from_str_radix(digits, 16).unwrap();
        address(to) - address(from)
    });
    sizes.filter(|mapped| *mapped >= size).count()
}

#[test]
fn a_reader_stopped_during_twenty_moves_keeps_one_extra_ring_and_reports_its_exact_losses() {
    let stands_still = Duration::from_secs(variable("PFS_TEST_SECONDS").unwrap_or(10));
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, MIB, MIB);
    let [reader] = attached_on(&daemon, Transport::Shm, ["drop"]);
    let mut data = Vec::new();
    // One writer after the other gets a lease, and each later append moves the stream out of the
    // leased ring buffer.
    let append_with_lease = |data: &mut Vec<u8>| {
        let mut writer = Fed::start(&daemon, []);
        writer.gets_a_lease(&daemon);
        data.extend(writer.finish());
        daemon.append(S, b"between".to_vec());
        data.extend(b"between");
    };
    append_with_lease(&mut data);
    eventually("the reader has read all", || {
        daemon.stat(S).unwrap()["readers"][0]["position"] == data.len()
    });
    reader.signal(Signal::STOP);
    let (begin, before) = (Instant::now(), daemon.stat_number(S, "moves"));
    while daemon.stat_number(S, "moves") < before + 20 {
        append_with_lease(&mut data);
        assert!(rings(daemon.pid(), MIB) <= 2);
        assert_eq!(rings(reader.pid(), MIB), 1);
        assert!(daemon.stat_number(S, "memory") < 5 * MIB / 2, "{}", daemon.stat(S).unwrap());
    }
    sleep(stands_still.saturating_sub(begin.elapsed()));
    reader.signal(Signal::CONT);
    daemon.pfs(["close", S]).run().exits(0);
    let run = reader.finish().exits(4);
    let gaps = gaps(&run.stderr);
    assert_eq!(gaps.len(), 1, "{}", run.stderr);
    assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
}

/// Returns the start offset that `cat -v` reports.
fn start_offset(stderr: &str) -> usize {
    let (_, rest) = stderr.split_once("from offset ").unwrap_or_else(|| panic!("{stderr}"));
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

#[test]
fn a_block_reader_that_keeps_a_holder_waiting_for_too_long_becomes_a_drop_reader() {
    let daemon = Daemon::with_config("[limits]\nmax_block_time = \"100ms\"\n");
    daemon.create_with_buffers(S, MIB, MIB);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    reader.signal(Signal::STOP);
    writer.give(16 * MIB as usize);
    let stat = daemon.reader_stat(S, reader.pid()).unwrap();
    assert_eq!((&stat["policy"], &stat["was_block"]), (&"drop".into(), &true.into()));
    assert!(daemon.log().contains("the reader is a drop reader now"), "{}", daemon.log());
    reader.signal(Signal::CONT);
    let data = writer.finish();
    let run = reader.finish().exits(4);
    assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps(&run.stderr))));
}

#[test]
fn a_reader_that_cannot_follow_keeps_leases_away_until_it_goes() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, MIB, MIB);
    let mut writer = Fed::start(&daemon, []);
    writer.gets_a_lease(&daemon);
    // This reader cannot announce that it sleeps, so its attachment ends the lease.
    let reader = handed(&daemon, S, ReadOptions::default());
    assert_eq!(holder(&daemon), None);
    writer.gives_for_a_pause();
    eventually("all of it is in the stream", || daemon.head(S) == writer.given.len() as u64);
    assert_eq!(holder(&daemon), None);
    drop(reader);
    daemon.has_readers(S, 0);
    writer.gets_a_lease(&daemon);
    writer.finish();
}

#[test]
fn only_clients_with_the_leasing_capability_are_told_of_a_lease() {
    use pfs_proto::{Reply, Request};
    let daemon = Daemon::start();
    let mut writer = Fed::start(&daemon, []);
    writer.gets_a_lease(&daemon);
    for (wire, knows) in [(daemon.wire().greeted(), false), (daemon.wire().greeted_to_hold(), true)]
    {
        let mut wire = wire;
        wire.send(&Request::Stat(S.parse().unwrap()));
        assert!(matches!(wire.reply(), Some(Reply::Stat(_))));
        let reply = wire.reply();
        assert!(
            matches!(reply, Some(Reply::WriterStat(WriterStat { leased, .. })) if leased == knows),
            "{reply:?}"
        );
    }
    writer.finish();
}
