//! Readers that follow a growing stream from one ring buffer to the next.

use std::{sync::mpsc, thread};

use harness::{
    Daemon, Signal, Transport, digest, eventually, limit_file_size, noise, shares_memory,
};
use pfs_client::{Client, Endpoint, Event, blocking};
use pfs_proto::{ErrorCode, ReadOptions, Reply, Request, RingLayout};

use super::{S, handed_over};

const MIB: u64 = 1024 * 1024;

/// Chunks that grow a stream to its full size, while its reader waits for each of them.
fn chunks() -> impl Iterator<Item = Vec<u8>> {
    (0..160).map(|number| noise(number, 100 * number as usize + 1))
}

#[test]
fn an_shm_reader_makes_a_small_stream_take_a_page_and_no_more() {
    let daemon = Daemon::start();
    daemon.append(S, "little");
    let reader = daemon.reader_on(Transport::Shm, S, []);
    eventually("it has read all", || reader.stdout_len() == 6);
    assert!(shares_memory(reader.pid()));
    let stat = daemon.stat(S).unwrap();
    let memory = stat["memory"].as_u64().unwrap();
    assert!((4096..8192).contains(&memory), "{stat}");
}

/// Reads chunks on a thread, one by one, while the stream grows. Calls `before` before each append.
/// Returns true if the reader still used shm at the end.
#[track_caller]
fn read_each(daemon: &Daemon, before: impl Fn(usize)) -> bool {
    daemon.create(S);
    let client = blocking::Client::new(Endpoint::Unix(daemon.socket()));
    let mut reader = client.reader(S, ReadOptions::default()).unwrap();
    let mut writer = client.writer(S, pfs_proto::WriteOptions::default()).unwrap();
    assert!(reader.is_shm());
    let (got, taken) = mpsc::channel();
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            loop {
                match reader.next().unwrap() {
                    Event::Chunk(chunk) => got.send(chunk).unwrap(),
                    Event::End { .. } => break reader.is_shm(),
                    _ => {}
                }
            }
        });
        for (number, chunk) in chunks().enumerate() {
            before(number);
            writer.append(&chunk).unwrap();
            assert!(taken.recv().unwrap() == chunk, "another chunk of {} bytes", chunk.len());
        }
        daemon.close(S);
        reading.join().unwrap()
    })
}

#[test]
fn a_thread_that_waits_for_each_chunk_gets_all_while_its_stream_grows() {
    let daemon = Daemon::start();
    assert!(read_each(&daemon, |_| ()));
    assert!(daemon.stat_number(S, "moves") > 4);
}

#[tokio::test]
async fn a_task_that_waits_for_each_chunk_gets_all_while_its_stream_grows() {
    let daemon = Daemon::start();
    daemon.create(S);
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let mut reader = client.reader(S, ReadOptions::default()).await.unwrap();
    let mut writer = client.writer(S, pfs_proto::WriteOptions::default()).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Event::Attached { .. })));
    let (got, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let reads = tokio::spawn(async move {
        loop {
            match reader.next().await.unwrap() {
                Event::Chunk(chunk) => got.send(chunk).unwrap(),
                Event::End { .. } => break reader.is_shm(),
                other => panic!("{other:?}"),
            }
        }
    });
    for chunk in chunks() {
        writer.append(&chunk).await.unwrap();
        assert!(taken.recv().await.unwrap() == chunk, "another chunk of {} bytes", chunk.len());
    }
    writer.finish(pfs_client::Finish::Close).await.unwrap();
    assert!(reads.await.unwrap());
    assert!(daemon.stat_number(S, "moves") > 4);
}

#[test]
fn a_reader_that_was_stopped_while_its_stream_moved_gets_all_or_says_exactly_what_it_missed() {
    for policy in ["drop", "block"] {
        let daemon = Daemon::with_buffers(MIB, MIB);
        daemon.create(S);
        let reader = daemon.reader_on(Transport::Shm, S, ["--slow", policy]);
        reader.signal(Signal::STOP);
        let data = noise(3, 6 * 1024 * 1024);
        let writer = daemon.pfs(["write", "--stream", "--close", S]).stdin(&data[..]).spawn();
        eventually("the stream has its full size", || daemon.stat_number(S, "capacity") == MIB);
        if policy == "drop" {
            eventually("all is in the stream", || daemon.head(S) == data.len() as u64);
        }
        reader.signal(Signal::CONT);
        writer.finish().exits(0).quietly();
        if policy == "block" {
            let read = reader.finish().exits(0).quietly();
            assert_eq!(digest(&read.stdout), digest(&data));
            continue;
        }
        let read = reader.finish().exits(4);
        let (mut at, mut got) = (0, &read.stdout[..]);
        for gap in harness::gaps(&read.stderr) {
            let part = got.split_off(..(gap.from - at) as usize).unwrap();
            assert_eq!(digest(part), digest(&data[at as usize..gap.from as usize]));
            at = gap.to;
        }
        assert_eq!(digest(got), digest(&data[at as usize..]));
    }
}

#[test]
fn a_reader_is_handed_a_ring_when_its_stream_has_moved_and_is_refused_otherwise() {
    let daemon = Daemon::start();
    daemon.create(S);
    let mut reader = handed_over(daemon.wire().greeted_to_follow(), S, ReadOptions::default());
    assert!(reader.start.layout.capacity < 4096);
    daemon.append(S, noise(1, 100_000));
    reader.wire.send(&Request::Follow);
    let reply = reader.wire.reply();
    let Some(Reply::Ring { layout: RingLayout { capacity: 100_000.., .. }, leased: false }) = reply
    else {
        panic!("{reply:?}")
    };
    drop(reader.wire.descriptor());
    reader.wire.send(&Request::Follow);
    assert_eq!(reader.wire.refusal(), Some(ErrorCode::Protocol));
}

#[test]
fn a_reader_of_a_stream_that_has_moved_is_told_of_its_removal() {
    let daemon = Daemon::start();
    daemon.create(S);
    let mut reader = handed_over(daemon.wire().greeted_to_follow(), S, ReadOptions::default());
    daemon.append(S, noise(1, 100_000));
    daemon.remove(S);
    reader.wire.send(&Request::Follow);
    assert_eq!(reader.wire.refusal(), Some(ErrorCode::Removed));
}

#[test]
fn a_reader_that_cannot_map_the_next_ring_goes_on_over_its_connection_where_its_page_says() {
    let daemon = Daemon::start();
    daemon.append(S, "first");
    let mut reader = handed_over(daemon.wire().greeted_to_follow(), S, ReadOptions::default());
    // The reader has read the first chunk: write the offset and the number of the next chunk.
    rustix::io::pwrite(&reader.page, &[5_u64.to_ne_bytes(), 1_u64.to_ne_bytes()].concat(), 0)
        .unwrap();
    let data = noise(1, 100_000);
    daemon.append(S, data.clone());
    reader.wire.send(&Request::Follow);
    assert!(matches!(reader.wire.reply(), Some(Reply::Ring { .. })));
    reader.wire.send(&Request::CannotMap);
    let mut got = Vec::new();
    while got.len() < data.len() {
        match reader.wire.reply() {
            Some(Reply::Data(bytes) | Reply::DataPart(bytes)) => got.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(digest(&got), digest(&data));
}

#[test]
fn a_thread_whose_stream_moves_to_memory_that_cannot_be_shared_goes_on_over_its_connection() {
    let daemon = Daemon::start();
    let is_shm = read_each(&daemon, |number| {
        if number == 10 {
            // The reader sleeps on the ring buffer by then.
            limit_file_size(daemon.pid(), 64 * 1024);
        }
    });
    assert!(!is_shm);
}
