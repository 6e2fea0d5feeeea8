//! Death of a process that shares memory: the others notice it. `pfs-client/src/tests/sleeping.rs`
//! tests that no timer is needed.

use harness::{Daemon, Running, Signal, Transport, eventually, gaps, noise, shares_memory};
use pfs_client::WriteError;
use pfs_proto::{ReadOptions, Request};

use super::S;

/// Starts readers that have read everything and sleep on the ring buffer.
#[track_caller]
fn sleeping_readers(daemon: &Daemon) -> Vec<Running> {
    daemon.append(S, "so far");
    let start = |policy| daemon.reader_on(Transport::Shm, S, ["--slow", policy]);
    let readers: Vec<_> = ["drop", "block", "disconnect", "drop"].map(start).into();
    eventually("they have read all", || readers.iter().all(|reader| reader.stdout_len() == 6));
    assert!(readers.iter().all(|reader| shares_memory(reader.pid())));
    readers
}

#[track_caller]
fn all_end_with(code: i32, readers: Vec<Running>) {
    for reader in readers {
        assert_eq!(reader.finish().exits(code).text(), "so far");
    }
}

#[test]
fn a_killed_daemon_is_noticed_by_readers_that_sleep() {
    let mut daemon = Daemon::start();
    let readers = sleeping_readers(&daemon);
    daemon.kill9();
    all_end_with(5, readers);
}

#[test]
fn a_terminated_daemon_is_noticed_by_readers_that_sleep() {
    let mut daemon = Daemon::start();
    let readers = sleeping_readers(&daemon);
    daemon.signal(Signal::TERM);
    all_end_with(5, readers);
    eventually("the daemon has ended", || !daemon.runs());
}

#[test]
fn the_removal_of_their_stream_is_noticed_by_readers_that_sleep() {
    let daemon = Daemon::start();
    let readers = sleeping_readers(&daemon);
    daemon.remove(S);
    all_end_with(7, readers);
}

#[test]
fn a_killed_daemon_is_noticed_by_an_shm_writer_that_waits_for_an_shm_reader() {
    let mut daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let (_reader, writer) = a_writer_that_waits(&daemon);
    daemon.kill9();
    writer.finish().exits(5);
}

#[test]
fn a_daemon_that_is_terminated_while_writers_wait_for_an_shm_block_reader_overwrites_nothing_of_it()
{
    const WRITERS: usize = 8;
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    // The reader is attached a moment before it has mapped the ring buffer.
    eventually("the reader has the ring", || shares_memory(reader.pid()));
    reader.signal(Signal::STOP);
    let chunk = vec![b'x'; 1000];
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let transport = Transport::OF_THE_SOCKET[number % 2];
            let write = daemon.pfs_on(transport, ["write", "--stream", "--chunk-size", "1000", S]);
            write.stdin(chunk.repeat(1000)).spawn()
        })
        .collect();
    eventually("all wait for it", || {
        let stat = daemon.stat(S).unwrap();
        let writers = stat["writers"].as_array().unwrap();
        writers.len() == WRITERS && writers.iter().all(|writer| writer["waiting"] == true)
    });
    let (ended, _folder) = daemon.ends_by(Signal::TERM);
    assert_eq!(ended.code, 0);
    for writer in writers {
        writer.finish().exits(5);
    }
    reader.signal(Signal::CONT);
    let run = reader.finish().exits(5);
    assert_eq!(gaps(&run.stderr), []);
    assert!(!run.stdout.is_empty() && run.stdout.iter().all(|byte| *byte == b'x'));
}

/// Starts a `block` reader, which is stopped, and a writer that waits for it. Returns both.
#[track_caller]
fn a_writer_that_waits(daemon: &Daemon) -> (Running, Running) {
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    reader.signal(Signal::STOP);
    let write = daemon.pfs_on(Transport::Shm, ["write", "--stream", S]);
    let writer = write.stdin(noise(1, 1024 * 1024)).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, reader.pid()).unwrap()["blocking"] == true
    });
    (reader, writer)
}

#[test]
fn a_daemon_that_is_killed_at_work_is_noticed_by_shm_writers_that_only_append() {
    let options = pfs_client::WriteOptions::default();
    let there = |daemon: &Daemon| pfs_client::Endpoint::Unix(daemon.socket());
    let mut daemon = Daemon::start();
    let client = pfs_client::blocking::Client::new(there(&daemon));
    let mut writer = client.writer(S, options).unwrap();
    assert!(writer.is_shm());
    is_noticed(&mut daemon, |chunk| writer.append(chunk));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut daemon = Daemon::start();
    let client = runtime.block_on(pfs_client::Client::connect(there(&daemon))).unwrap();
    let mut writer = runtime.block_on(client.writer(S, options)).unwrap();
    is_noticed(&mut daemon, |chunk| runtime.block_on(writer.append(chunk)));
}

#[track_caller]
fn is_noticed(daemon: &mut Daemon, mut append: impl FnMut(&[u8]) -> Result<(), WriteError>) {
    // While the daemon is stopped, the writer notifies it once. The daemon then dies before it
    // requests another notification.
    daemon.signal(Signal::STOP);
    append(b"x").unwrap();
    append(b"x").unwrap();
    daemon.kill9();
    let mut error = None;
    eventually("it is noticed", || {
        error = append(b"x").err();
        error.is_some()
    });
    assert!(matches!(error, Some(WriteError::DaemonGone(_))), "{error:?}");
}

#[test]
fn the_death_of_an_shm_block_reader_releases_the_writer_that_waits_for_it() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let (reader, writer) = a_writer_that_waits(&daemon);
    reader.signal(Signal::KILL);
    writer.finish().exits(0).quietly();
    assert_eq!(daemon.head(S), 1024 * 1024);
}

#[test]
fn shm_readers_see_only_whole_chunks_of_shm_writers_that_are_killed_while_they_write() {
    const CHUNK: u64 = 50_000;
    let daemon = Daemon::with_buffers(1024 * 1024, 1024 * 1024);
    let data = noise(3, 1_000 * CHUNK as usize);
    let file = daemon.dir().join("data");
    std::fs::write(&file, &data).unwrap();
    for round in 1..=5 {
        let name = format!("/streamfs/{round}");
        daemon.create(&name);
        let args = ["--slow", "block", "--until", "writers-gone"];
        let mut reader = daemon.piped_reader_on(Transport::Shm, &name, args);
        // The test takes no more output until then, so the writer cannot finish first.
        let output = reader.take_at_most(data.len() as u64 / 2);
        let write =
            daemon.pfs_on(Transport::Shm, ["write", "--stream", "--chunk-size", "50000", &name]);
        let writer = write.stdin_file(&file).spawn();
        eventually("it is in the middle", || output.taken() > round * 3 * CHUNK);
        writer.signal(Signal::KILL);
        let got = output.rest();
        reader.finish().exits(8).says("writer");
        assert!(data.starts_with(&got), "not a prefix");
        assert_eq!((got.len() as u64 % CHUNK, daemon.head(&name)), (0, got.len() as u64));
    }
}

#[test]
fn a_reader_that_dies_between_receiving_and_mapping_the_ring_is_forgotten() {
    let daemon = Daemon::start();
    daemon.create(S);
    let mut wire = daemon.wire().greeted_to_share();
    wire.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
    daemon.has_readers(S, 1);
    drop(wire);
    daemon.has_readers(S, 0);
}
