//! Broken HTTP connections: neither the stream nor the reader ends, and the reader resumes.

use harness::{Daemon, Link, Running, Signal, digest, eventually, gaps, kept, noise};

use super::{S, pfs_at};

/// Starts a reader behind the proxy `link` and waits until it is attached.
fn reader<const N: usize>(daemon: &Daemon, link: &Link, args: [&str; N]) -> Running {
    daemon.attached(S, pfs_at(&link.url(), ["cat", "--stream"]).args(args).arg(S))
}

fn write(daemon: &Daemon, data: &[u8]) {
    daemon.pfs(["write", "--stream", S]).stdin(data).run().exits(0);
}

fn line(daemon: &Daemon) -> Link {
    Link::to(daemon.http_address(), "")
}

/// Breaks the link and calls `meanwhile` before the readers can notice. The readers are stopped
/// during that time, so `meanwhile` may take longer than their time limit for reconnecting.
fn while_broken<const N: usize>(link: &Link, readers: [&Running; N], meanwhile: impl FnOnce()) {
    readers.iter().for_each(|reader| reader.signal(Signal::STOP));
    link.cut();
    meanwhile();
    readers.iter().for_each(|reader| reader.signal(Signal::CONT));
}

#[test]
fn a_reader_resumes_at_its_offset_and_says_so() {
    let daemon = Daemon::with_http();
    let link = line(&daemon);
    daemon.create(S);
    let reader = reader(&daemon, &link, []);
    let data = noise(1, 3 * 1024 * 1024);
    for (round, part) in data.chunks(1024 * 1024).enumerate() {
        write(&daemon, part);
        eventually("it has read all", || reader.stdout_len() == (round as u64 + 1) << 20);
        // The reader resumes at its first attempt in the first round, and after some failed
        // attempts in the later ones.
        link.cut_and_refuse(2 * round);
        let said = format!("the connection broke at offset {} of {S}; resumed", (round + 1) << 20);
        eventually("it says so", || reader.stderr().contains(&said));
    }
    write(&daemon, b"the end");
    daemon.close(S);
    let run = reader.finish().exits(0);
    assert_eq!(digest(&run.stdout), digest(&[&data[..], b"the end"].concat()));
    assert_eq!(run.stderr.lines().count(), 3, "{}", run.stderr);
}

const LARGE: &str =
    "[plugins.streamfs.config]\nring_buffer_size = \"64MB\"\nchannel_buffer_size = \"64MB\"\n";

#[test]
fn no_byte_is_lost_or_doubled_however_often_the_connection_breaks_inside_a_chunk() {
    let daemon = Daemon::with_http_config(LARGE);
    let link = line(&daemon);
    let data = noise(2, 32_000_000);
    for chunk in data.chunks(4_000_000) {
        daemon.pfs(["write", S]).stdin(chunk).run().exits(0);
    }
    assert_eq!(daemon.stat_number(S, "chunks"), 8);
    daemon.close(S);
    // One whole chunk and a part of the next one.
    link.cut_each_after(5_500_000);
    let run = pfs_at(&link.url(), ["cat", "--stream", S]).run().exits(0);
    assert_eq!(gaps(&run.stderr), []);
    let cuts = run.stderr.matches("resumed").count();
    assert!(cuts >= 5 && digest(&run.stdout) == digest(&data), "{cuts} cuts: {}", run.stderr);
}

#[test]
fn bytes_that_left_the_ring_meanwhile_are_a_gap_exact_to_the_byte() {
    let config =
        "[plugins.streamfs.config]\nring_buffer_size = 100000\nchannel_buffer_size = 100000\n";
    let daemon = Daemon::with_http_config(config);
    let link = line(&daemon);
    daemon.create(S);
    for slow in ["drop", "block", "disconnect"] {
        daemon.remove(S);
        daemon.create(S);
        let reader = reader(&daemon, &link, ["--slow", slow]);
        let data = noise(3, 1_000_000);
        let file = daemon.dir().join("data");
        std::fs::write(&file, &data[50_000..]).unwrap();
        write(&daemon, &data[..50_000]);
        eventually("it has read all", || reader.stdout_len() == 50_000);
        while_broken(&link, [&reader], || {
            let write = daemon.pfs(["write", "--stream", "--close", "--chunk-size", "1000", S]);
            write.stdin_file(&file).run().exits(0);
        });
        let run = reader.finish().exits(4).says("resumed");
        let gaps = gaps(&run.stderr);
        assert_eq!((gaps.len(), gaps[0].from), (1, 50_000), "{}", run.stderr);
        assert!(gaps[0].to.is_multiple_of(1000));
        assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
    }
}

#[test]
fn a_stream_of_a_restarted_daemon_is_another_stream() {
    let mut daemon = Daemon::with_http();
    let link = line(&daemon);
    daemon.create(S);
    write(&daemon, b"of ");
    let reader = [reader(&daemon, &link, []), reader(&daemon, &link, ["--new"])];
    write(&daemon, b"before");
    eventually("both have read all", || reader.each_ref().map(Running::stdout_len) == [9, 6]);
    while_broken(&link, reader.each_ref(), || {
        daemon.kill9();
        daemon.restart();
        write(&daemon, b"of afterwards, and longer");
    });
    for (reader, text) in reader.into_iter().zip(["of before", "before"]) {
        let run = reader.finish().exits(5).says("offset 9");
        assert_eq!(run.text(), text);
    }
}

#[test]
fn a_stream_that_was_created_again_meanwhile_is_another_stream() {
    let daemon = Daemon::with_http();
    let link = line(&daemon);
    for anew in [None, Some(&b"short"[..]), Some(b"longer than before")] {
        daemon.create(S);
        write(&daemon, b"of before");
        let reader = reader(&daemon, &link, []);
        eventually("it has read all", || reader.stdout_len() == 9);
        while_broken(&link, [&reader], || {
            daemon.remove(S);
            if let Some(anew) = anew {
                write(&daemon, anew);
            }
        });
        let run = reader.finish().exits(7).says("removed");
        assert_eq!(run.text(), "of before");
        daemon.pfs(["rm", "-f", S]).run().exits(0);
    }
}

#[test]
fn a_reader_waits_for_a_killed_daemon_and_does_not_take_its_death_for_the_end() {
    let mut daemon = Daemon::with_http();
    daemon.create(S);
    let data = noise(4, 50_000_000);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    let mut reader = daemon
        .attached(S, daemon.pfs_http(["cat", "--stream", "--slow", "block", S]).stdout_pipe());
    // The test takes no more output until then, so the writer cannot finish first.
    let output = reader.take_at_most(data.len() as u64 / 2);
    let waiting = daemon.pfs_http(["cat", "--stream", "/streamfs/never"]).spawn();
    eventually("the other one waits", || waiting.stderr().contains("never"));
    let write = daemon.pfs_http(["write", "--stream", "--close", "--chunk-size", "50000", S]);
    let writer = write.stdin_file(&file).spawn();
    eventually("it is in the middle", || output.taken() > 1_000_000);
    daemon.kill9();
    writer.finish().exits(5).says("bytes of the input were appended before");
    let got = output.rest();
    reader.finish().exits(5).says("went away").says("printed up to offset");
    assert!(
        got.len().is_multiple_of(50_000) && data.starts_with(&got),
        "no prefix of whole chunks"
    );
    waiting.finish().exits(5);
}

#[test]
fn a_reader_does_not_wait_for_a_daemon_that_shut_down() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let reader = daemon.attached(S, daemon.pfs_http(["cat", "--stream", S]));
    daemon.ends_by(Signal::TERM).0.exits(0);
    let run = reader.finish().exits(5).says("went away");
    assert!(!run.stderr.contains("within"), "{}", run.stderr);
}

#[test]
fn a_writer_does_not_resume_because_bytes_could_be_doubled() {
    let daemon = Daemon::with_http();
    let link = line(&daemon);
    let mut writer = pfs_at(&link.url(), ["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let reader =
        daemon.attached(S, daemon.pfs_http(["cat", "--stream", "--until", "writers-gone", S]));
    link.cut();
    writer.finish().exits(5).says("6 bytes of the input were appended before");
    reader.finish().exits(8);
}

#[test]
fn the_requested_end_stays_the_same_after_a_resume() {
    let daemon = Daemon::with_http_config(LARGE);
    let link = line(&daemon);
    // The reader must get the bytes that were there at its start and not the later ones. This is
    // more than the buffers between the daemon and the reader hold.
    let data = noise(5, 48 * 1024 * 1024);
    write(&daemon, &data);
    let mut reader = daemon.attached(
        S,
        pfs_at(&link.url(), ["cat", "--stream", "--until", "caught-up", S]).stdout_pipe(),
    );
    // The daemon knows the reader before it knows the reader's position. Output proves that the
    // reader is reading.
    let output = reader.take_at_most(1);
    eventually("it reads", || output.taken() > 0);
    write(&daemon, b"more");
    link.cut();
    let got = output.rest();
    let run = reader.finish().exits(0).says("resumed");
    assert_eq!(digest(&got), digest(&data), "{}", run.stderr);
    daemon.remove(S);

    // A writer that died while no reader was connected.
    let mut doomed = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    doomed.send(b"doomed");
    eventually("it is written", || daemon.head(S) == 6);
    let reader = self::reader(&daemon, &link, ["--until", "writers-gone"]);
    eventually("it has read all", || reader.stdout_len() == 6);
    let mut other = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    eventually("the other writer is there", || daemon.stat(S).unwrap()["writers"].get(1).is_some());
    while_broken(&link, [&reader], || {
        doomed.signal(Signal::KILL);
        doomed.finish().exits(137);
        eventually("it is known to be dead", || daemon.stat_number(S, "writers_died") == 1);
    });
    other.send(b", other");
    eventually("it goes on", || reader.stdout_len() == 13);
    other.end_input();
    other.finish().exits(0);
    assert_eq!(reader.finish().exits(8).text(), "doomed, other");
}

#[test]
fn a_reader_that_waits_for_its_stream_misses_nothing_of_it() {
    let daemon = Daemon::with_http();
    let link = line(&daemon);
    let reader = pfs_at(&link.url(), ["cat", "--stream", "--new", S]).spawn();
    eventually("it waits", || reader.stderr().contains(S));
    link.cut();
    eventually("it waits again", || reader.stderr().contains("resumed"));
    while_broken(&link, [&reader], || {
        write(&daemon, b"all");
        daemon.close(S);
    });
    assert_eq!(reader.finish().exits(0).text(), "all");
}
