//! The output and the end of a reader are the same with and without shm.

use std::io::Read as _;

use harness::{
    Daemon, Finished, Running, Signal, Transport, digest, eventually, gaps, kept, noise,
    shares_memory,
};

use super::S;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Checks that both runs are alike, and returns the one of the shm reader.
#[track_caller]
fn alike([shm, other]: [Finished; 2]) -> Finished {
    assert_eq!(shm.code, other.code, "exit codes; stderr: {} and {}", shm.stderr, other.stderr);
    assert_eq!(shm.stderr, other.stderr);
    assert_eq!(digest(&shm.stdout), digest(&other.stdout));
    shm
}

#[track_caller]
fn both_readers(daemon: &Daemon, args: [&str; 2]) -> [Running; 2] {
    Transport::OF_THE_SOCKET.map(|transport| daemon.reader_on(transport, S, args))
}

#[test]
fn readers_and_writers_use_shm_unless_they_are_told_not_to() {
    const LEN: usize = 4 * 1024 * 1024;
    let daemon = Daemon::start();
    daemon.create(S);
    for transport in Transport::OF_THE_SOCKET {
        let reader = daemon.reader_on(transport, S, ["--new"]);
        let mut writer = daemon.pfs_on(transport, ["write", "--stream", S]).stdin_pipe().spawn();
        // Enough for a lease.
        writer.send(&noise(1, LEN));
        eventually("the bytes arrive", || reader.stdout_len() == LEN as u64);
        let shares = transport == Transport::Shm;
        assert_eq!(shares_memory(reader.pid()), shares, "the reader, {transport:?}");
        eventually("the writer shares memory if it may", || shares_memory(writer.pid()) == shares);
    }
}

#[test]
fn history_is_read_the_same_with_and_without_shm() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    let data = noise(1, 300 * KIB);
    let write = ["write", "--stream", "--close", "--chunk-size", "1000", S];
    daemon.pfs(write).stdin(&data[..]).run().exits(0);
    let tail = daemon.stat_number(S, "tail") as usize;
    let middle = (tail + 2_500).to_string();
    let cases: [(&[&str], i32, &[u8]); 8] = [
        (&[], 0, &data[tail..]),
        (&["--until", "caught-up"], 0, &data[tail..]),
        (&["--until", "writers-gone", "--slow", "block"], 0, &data[tail..]),
        (&["--slow", "disconnect"], 0, &data[tail..]),
        (&["--new"], 0, b""),
        (&["--offset", &middle], 0, &data[tail + 2_500..]),
        (&["--offset", "1000"], 4, &data[tail..]),
        (&["--offset", "999999999"], 1, b""),
    ];
    for (args, code, expected) in cases {
        let runs = Transport::OF_THE_SOCKET
            .map(|transport| daemon.pfs_on(transport, ["cat", "--stream"]).args(args).arg(S).run());
        let run = alike(runs).exits(code);
        assert_eq!(digest(&run.stdout), digest(expected), "{args:?}");
        assert_eq!(gaps(&run.stderr).len(), usize::from(code == 4), "{args:?}: {}", run.stderr);
    }
    let missing = ["cat", "--stream", "--until", "caught-up", "/streamfs/never"];
    alike(Transport::OF_THE_SOCKET.map(|transport| daemon.pfs_on(transport, missing).run()))
        .exits(3);
}

#[test]
fn every_end_is_reported_the_same_with_and_without_shm() {
    type Event = fn(&mut Daemon, Running);
    let ends: [(&str, i32, Event); 6] = [
        ("closed", 0, |daemon, _writer| drop(daemon.pfs(["close", S]).run().exits(0))),
        ("closed", 7, |daemon, _writer| drop(daemon.pfs(["rm", S]).run().exits(0))),
        ("writers-gone", 0, |_, writer| drop(writer.finish().exits(0))),
        ("writers-gone", 8, |_, writer| writer.signal(Signal::KILL)),
        ("closed", 5, |daemon, _writer| daemon.signal(Signal::TERM)),
        ("closed", 5, |daemon, _writer| daemon.kill9()),
    ];
    for writers_transport in Transport::OF_THE_SOCKET {
        for (until, code, event) in ends {
            let mut daemon = Daemon::start();
            daemon.create(S);
            let readers = both_readers(&daemon, ["--until", until]);
            let mut writer =
                daemon.pfs_on(writers_transport, ["write", "--stream", S]).stdin_pipe().spawn();
            writer.send(b"so far");
            eventually("both have it", || readers.iter().all(|reader| reader.stdout_len() == 6));
            event(&mut daemon, writer);
            assert_eq!(alike(readers.map(Running::finish)).exits(code).text(), "so far");
        }
    }
}

#[test]
fn readers_that_wait_for_a_stream_are_attached_before_its_first_byte_with_and_without_shm() {
    let daemon = Daemon::start();
    let readers = Transport::OF_THE_SOCKET
        .map(|transport| daemon.pfs_on(transport, ["cat", "--stream", "--new", S]).spawn());
    eventually("both wait", || readers.iter().all(|reader| reader.stderr().contains(S)));
    daemon.pfs(["write", "--close", S]).stdin("first").run().exits(0);
    assert_eq!(alike(readers.map(Running::finish)).exits(0).text(), "first");
}

#[test]
fn stopped_drop_readers_report_exact_gaps_in_the_same_words_with_and_without_shm() {
    let daemon = Daemon::with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    let data = noise(2, 8 * MIB);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    let readers = both_readers(&daemon, ["--slow", "drop"]);
    for reader in &readers {
        reader.signal(Signal::STOP);
    }
    let write = ["write", "--stream", "--close", "--chunk-size", "1024", S];
    daemon.pfs(write).stdin_file(&file).run().exits(0);
    let mut lost = 0;
    for reader in &readers {
        reader.signal(Signal::CONT);
    }
    for reader in readers {
        let run = reader.finish().exits(4);
        let gaps = gaps(&run.stderr);
        assert!(!gaps.is_empty());
        assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
        assert!(
            gaps.iter()
                .all(|gap| gap.from % 1024 == 0 && gap.chunks == Some((gap.to - gap.from) / 1024))
        );
        lost += gaps.iter().map(|gap| gap.to - gap.from).sum::<u64>();
    }
    eventually("the stream knows of all of it", || daemon.stat_number(S, "lost_bytes") == lost);
}

#[test]
fn disconnect_readers_that_lag_are_ended_with_6_with_and_without_shm() {
    let daemon = Daemon::with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    let mut readers = Transport::OF_THE_SOCKET
        .map(|transport| daemon.piped_reader_on(transport, S, ["--slow", "disconnect"]));
    let mut writer = daemon.appender(S);
    writer.append_until(64 * KIB, || daemon.all_have_lost(S));
    let data = writer.close();
    let outputs = readers.each_mut().map(|reader| {
        let mut output = Vec::new();
        reader.take_stdout().read_to_end(&mut output).unwrap();
        output
    });
    assert!(outputs.iter().all(|output| output.len() < data.len() && data.starts_with(output)));
    let words = readers.map(|reader| {
        let said = reader.finish().exits(6).says("slow").stderr;
        said.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>()
    });
    assert_eq!(words[0], words[1]);
}

#[test]
fn many_block_readers_of_both_kinds_get_all_of_what_writers_of_both_kinds_send() {
    for writers_transport in Transport::OF_THE_SOCKET {
        let daemon = Daemon::with_buffers(256 * 1024, 256 * 1024);
        let data = noise(4, 4 * MIB);
        let readers: Vec<_> = (0..12)
            .map(|i| {
                let read = daemon.pfs_on(
                    Transport::OF_THE_SOCKET[i % 2],
                    ["-q", "cat", "--stream", "--slow", "block", S],
                );
                let mut reader = read.stdout_pipe().spawn();
                let got = reader.digest_stdout();
                (reader, got)
            })
            .collect();
        let write = daemon.pfs_on(
            writers_transport,
            ["-q", "write", "--stream", "--close", "--wait-readers", "12", S],
        );
        write.stdin(&data[..]).run().exits(0).quietly();
        for (reader, got) in readers {
            reader.finish().exits(0).quietly();
            assert_eq!(got.join().unwrap(), digest(&data));
        }
    }
}
