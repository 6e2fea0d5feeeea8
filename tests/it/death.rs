//! Processes that die, and what the others are told.

use bytes::Bytes;
use harness::{Daemon, Signal, Transport, digest, eventually, noise};
use pfs_proto::{Reply, Request, WriteOptions};

const S: &str = "/streamfs/s";

harness::per_transport! {
    a_killed_writer_is_not_the_end_for_a_reader_that_waits_for_writers_to_finish,
    readers_see_only_whole_chunks_of_writers_that_are_killed_while_they_write,
    a_killed_reader_is_forgotten_and_no_other_client_notices,
    a_killed_daemon_ends_all_clients_with_5_and_a_new_one_takes_over_its_socket,
    a_writer_that_waits_for_a_reader_notices_that_the_daemon_died,
    what_a_reader_got_of_a_daemon_that_is_killed_is_whole_chunks_from_the_start,
    a_reader_that_a_writer_waits_for_says_how_much_it_printed_of_a_daemon_that_was_killed,
}

fn a_killed_writer_is_not_the_end_for_a_reader_that_waits_for_writers_to_finish(
    transport: Transport,
) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let gone = daemon.reader(S, ["--until", "writers-gone"]);
    let mut patient = daemon.reader(S, []);
    writer.signal(Signal::KILL);
    let run = gone.finish().exits(8).says("writer");
    assert_eq!(run.text(), "so far");
    // Another writer can continue, and the patient reader notices nothing.
    assert!(patient.runs());
    daemon.pfs(["write", "--close", S]).stdin(", and on").run().exits(0);
    assert_eq!(patient.finish().exits(0).text(), "so far, and on");
    assert_eq!(daemon.stat_number(S, "writers_died"), 1);
    assert_eq!(daemon.stat_number(S, "writers_finished"), 1);
}

#[test]
fn no_part_of_a_chunk_is_visible_if_its_writer_dies_in_the_middle_of_it() {
    let daemon = Daemon::start();
    for missing in [1, 50_000] {
        let name = format!("/streamfs/missing-{missing}");
        let mut writer = daemon.wire().greeted();
        writer.send(&Request::OpenWriter(name.parse().unwrap(), WriteOptions::default()));
        assert!(matches!(writer.reply(), Some(Reply::Writing { .. })));
        writer.send(&Request::Append(Bytes::from_static(b"whole")));
        writer.send(&Request::AppendPart(Bytes::from(noise(1, 1024 * 1024))));
        writer.send_without_end(&Request::Append(Bytes::from(noise(2, 100_000))), missing);
        eventually("the whole chunk is there", || daemon.head(&name) == 5);
        let reader = daemon.reader(&name, ["--until", "writers-gone"]);
        drop(writer);
        assert_eq!(reader.finish().exits(8).text(), "whole");
        assert_eq!(daemon.head(&name), 5);
        assert_eq!(daemon.stat_number(&name, "writers_died"), 1);
    }
}

fn readers_see_only_whole_chunks_of_writers_that_are_killed_while_they_write(transport: Transport) {
    const CHUNK: usize = 50_000;
    let daemon = transport.daemon();
    let data = noise(3, 400 * CHUNK);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    for round in 1..=5 {
        let name = format!("/streamfs/{round}");
        daemon.create(&name);
        let mut reader = daemon.reader(&name, ["--slow", "block", "--until", "writers-gone"]);
        let write = daemon.pfs(["write", "--stream", "--chunk-size", "50000", &name]);
        let writer = write.stdin_file(&file).spawn();
        eventually("it is in the middle", || {
            reader.stdout_len() > round * 3 * CHUNK as u64 || !reader.runs()
        });
        writer.signal(Signal::KILL);
        let run = reader.finish();
        assert!(
            run.stdout.len().is_multiple_of(CHUNK) && data.starts_with(&run.stdout),
            "not a prefix of whole chunks"
        );
        // The writer may have finished before it was killed.
        let done = run.stdout.len() == data.len();
        run.exits(if done && daemon.stat_number(&name, "writers_finished") == 1 { 0 } else { 8 });
    }
}

fn a_killed_reader_is_forgotten_and_no_other_client_notices(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let data = noise(4, 1024 * 1024);
    writer.send(&data);
    eventually("it is written", || daemon.head(S) == 1024 * 1024);
    let doomed = daemon.reader(S, []);
    let other = daemon.reader(S, []);
    doomed.signal(Signal::KILL);
    daemon.forgets(S, doomed.pid());
    assert!(daemon.reader_stat(S, other.pid()).is_some());
    writer.send(&data);
    writer.end_input();
    writer.finish().exits(0);
    assert_eq!(digest(&other.finish().exits(0).stdout), digest(&[&data[..], &data].concat()));
}

fn a_killed_daemon_ends_all_clients_with_5_and_a_new_one_takes_over_its_socket(
    transport: Transport,
) {
    let mut daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let reader = daemon.reader(S, []);
    let waiting = daemon.pfs(["cat", "--stream", "/streamfs/never"]).spawn();
    eventually("it has read all", || reader.stdout_len() == 6);
    eventually("it waits", || waiting.stderr().contains("/streamfs/never"));
    daemon.kill9();
    let run = reader.finish().exits(5);
    assert_eq!(run.text(), "so far");
    waiting.finish().exits(5);
    writer.end_input();
    writer.finish().exits(5);
    daemon.pfs(["ls", "/streamfs"]).run().exits(5);

    assert!(daemon.socket().exists(), "the dead one left its socket");
    daemon.restart();
    assert!(daemon.streams().is_empty());
}

#[test]
fn an_shm_reader_gets_everything_that_a_killed_daemon_left_in_the_ring() {
    let mut daemon = Transport::Shm.daemon();
    daemon.append(S, "so far");
    let reader = daemon.reader(S, []);
    eventually("it has read all", || reader.stdout_len() == 6);
    reader.signal(Signal::STOP);
    eventually("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{}/stat", reader.pid())).unwrap().contains(") T ")
    });
    daemon.append(S, ", and on");
    daemon.kill9();
    reader.signal(Signal::CONT);
    assert_eq!(reader.finish().exits(5).says("printed up to offset 14").text(), "so far, and on");
}

fn a_writer_that_waits_for_a_reader_notices_that_the_daemon_died(transport: Transport) {
    let mut daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    let writer = daemon.pfs(["write", "--stream", S]).stdin(noise(5, 8 * 1024 * 1024)).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, reader.pid()).unwrap()["blocking"] == true
    });
    daemon.kill9();
    writer.finish().exits(5);
    reader.signal(Signal::CONT);
    reader.finish().exits(5);
}

fn what_a_reader_got_of_a_daemon_that_is_killed_is_whole_chunks_from_the_start(
    transport: Transport,
) {
    const CHUNK: usize = 50_000;
    let mut daemon = transport.daemon();
    daemon.create(S);
    let mut reader = daemon.piped_reader(S, ["--slow", "block"]);
    let data = noise(6, 1_000 * CHUNK);
    // The test takes no more output until then, so the writer cannot finish first.
    let output = reader.take_at_most(data.len() as u64 / 2);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    let write = daemon.pfs(["write", "--stream", "--chunk-size", "50000", S]);
    let writer = write.stdin_file(&file).spawn();
    eventually("it is in the middle", || output.taken() > 100 * CHUNK as u64);
    daemon.kill9();
    writer.finish().exits(5);
    let got = output.rest();
    reader.finish().exits(5);
    assert!(
        got.len().is_multiple_of(CHUNK) && data.starts_with(&got),
        "not a prefix of whole chunks"
    );
}

fn a_reader_that_a_writer_waits_for_says_how_much_it_printed_of_a_daemon_that_was_killed(
    transport: Transport,
) {
    let mut daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    // Reserved, so that the reader maps the same ring buffer that the writer fills.
    daemon.pfs(["create", "--reserve", S]).run().exits(0);
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    let data = noise(7, 8 * 1024 * 1024);
    let writer = daemon.pfs(["write", "--stream", S]).stdin(&data[..]).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, reader.pid()).unwrap()["blocking"] == true
    });
    let head = daemon.head(S);
    daemon.kill9();
    writer.finish().exits(5);
    reader.signal(Signal::CONT);
    let run = reader.finish().exits(5);
    let printed = run.stdout.len();
    assert!(printed > 0 && data.starts_with(&run.stdout), "{printed} bytes: {}", run.stderr);
    if transport == Transport::Shm {
        assert_eq!(printed as u64, head, "all that the ring had");
    }
    run.says(&format!("printed up to offset {printed}"));
}
