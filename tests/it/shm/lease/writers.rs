//! Other writers of a stream whose writer has a lease.

use std::io::Write as _;

use harness::{Daemon, Signal, Transport, digest, eventually};
use pfs_client::{
    Client, Endpoint, Event, Finish, ReadOptions, Reader, SlowPolicy, Start, WriteOptions,
};

use super::{Fed, MIB, holder, leased, other, own, runtime, told_apart};
use crate::shm::S;

const ALL: u64 = 32 * MIB;

#[test]
fn a_second_writer_ends_the_lease_and_when_it_has_gone_the_first_gets_one_again() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 48 * MIB, 48 * MIB);
    let mut others = Vec::new();
    let mut writer = Fed::start(&daemon, ["--close"]);
    for transport in Transport::OF_THE_SOCKET {
        writer.gets_a_lease(&daemon);
        let mut second =
            daemon.pfs_on(transport, ["-q", "write", "--stream", S]).stdin_pipe().spawn();
        let mut say = |bytes: Vec<u8>| {
            second.send(&bytes);
            others.extend(bytes);
            let all = writer.given.len() + others.len();
            eventually("what both were given is there", || daemon.head(S) == all as u64);
        };
        say(other(1, 1000));
        assert_eq!(holder(&daemon), None);
        say(other(2, 1000));
        // The lease stays away while the second writer is attached, even if it appends nothing.
        writer.gives_for_a_pause();
        let all = writer.given.len() + others.len();
        eventually("all of it is there", || daemon.head(S) == all as u64);
        assert_eq!(holder(&daemon), None);
        second.finish().exits(0).quietly();
    }
    writer.gets_a_lease(&daemon);
    let data = writer.finish();
    let read = daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly();
    let (own, of_others) = told_apart(&read.stdout);
    assert_eq!((digest(&own), digest(&of_others)), (digest(&data), digest(&others)));
    assert_eq!(daemon.stat_number(S, "writers_finished"), 3);
}

#[test]
fn chunks_of_a_holder_and_of_others_are_whole_and_in_the_order_of_each() {
    const CHUNKS: u64 = 60_000;
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, MIB, MIB);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let chunk = |writer: u64, number: u64| {
        let mut chunk = vec![writer as u8; 16 + (number % 300) as usize];
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        chunk[8..16].copy_from_slice(&writer.to_le_bytes());
        chunk
    };
    runtime.block_on(async {
        let client = |shm| {
            let endpoint = Endpoint::Unix(daemon.socket());
            async move { Client::connect(endpoint).await.unwrap().with_shm(shm) }
        };
        let mut readers = Vec::new();
        for shm in [true, false] {
            let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
            let mut reader = client(shm).await.reader(S, options).await.unwrap();
            readers.push(tokio::spawn(async move {
                let mut next = [0; 3];
                loop {
                    match reader.next().await.unwrap() {
                        Event::Chunk(bytes) => {
                            let writer = usize::from(bytes[8]);
                            let expected = chunk(writer as u64, next[writer]);
                            assert!(
                                bytes == expected,
                                "chunk {} of writer {writer} is another",
                                next[writer]
                            );
                            next[writer] += 1;
                        }
                        Event::End { .. } => return next,
                        Event::Gap { .. } => panic!("a block reader lost something"),
                        _ => {}
                    }
                }
            }));
        }
        let mut writers = Vec::new();
        for (writer, shm) in [(1, true), (2, false)] {
            let mut second = client(shm).await.writer(S, WriteOptions::default()).await.unwrap();
            writers.push(tokio::spawn(async move {
                for number in 0..CHUNKS / 20 {
                    second.append(chunk(writer, number)).await.unwrap();
                    tokio::task::yield_now().await;
                }
                second.finish(Finish::KeepOpen).await.unwrap();
            }));
        }
        let mut first = client(true).await.writer(S, WriteOptions::default()).await.unwrap();
        for number in 0..CHUNKS {
            match number % 3 {
                0 => first.append(chunk(0, number)).await.unwrap(),
                _ => first.push(chunk(0, number)).await.unwrap(),
            }
            if number % 1000 == 999 {
                first.flush().await.unwrap();
                assert_eq!((first.appended(), first.acked()), (number + 1, number + 1));
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        first.finish(Finish::Close).await.unwrap();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), [CHUNKS, CHUNKS / 20, CHUNKS / 20]);
        }
    });
}

#[test]
fn what_a_holder_has_pushed_is_sent_once_and_in_order_if_the_lease_has_ended_meanwhile() {
    const SIZES: [usize; 4] = [10, 3000, 1, 9000];
    let (input, mut output) = std::io::pipe().unwrap();
    runtime().block_on(async {
        for goes_on in
            ["sends", "flushes", "appends", "pushes much", "reads a file", "waits", "finishes"]
        {
            let daemon = Daemon::start();
            daemon.create_with_buffers(S, 8 * MIB, 8 * MIB);
            let mut writer = leased(&daemon).await;
            let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
            let options = ReadOptions { start: Start::New, ..ReadOptions::default() };
            let mut reader = client.reader(S, options).await.unwrap();
            let (mut got, before) = (Vec::new(), daemon.head(S));
            for (seed, len) in (0..).zip(SIZES) {
                writer.push(own(seed, len)).await.unwrap();
            }
            assert_eq!(writer.appended(), writer.acked() + 4);
            assert_eq!(daemon.head(S), before, "what was not sent is nobody's");
            daemon.append(S, other(0, 100));
            let mut expected: Vec<u8> =
                (0..).zip(SIZES).flat_map(|(seed, len)| own(seed, len)).collect();
            match goes_on {
                "sends" => writer.send().await.unwrap(),
                "flushes" => writer.flush().await.unwrap(),
                "appends" => {
                    expected.extend(own(9, 50));
                    writer.append(own(9, 50)).await.unwrap();
                }
                "pushes much" => {
                    expected.extend(own(9, MIB as usize));
                    writer.push(own(9, MIB as usize)).await.unwrap();
                }
                "reads a file" => {
                    let bytes = own(9, 500);
                    output.write_all(&bytes).unwrap();
                    expected.extend(bytes);
                    assert_eq!(writer.append_from(&input, 1000).await.unwrap().unwrap(), 500);
                }
                "waits" => {
                    let all = 100 + expected.len();
                    tokio::select! {
                        error = writer.failure() => panic!("{error}"),
                        () = read(&mut reader, all, &mut got) => {}
                    }
                }
                _ => {}
            }
            if goes_on == "flushes" {
                assert_eq!(writer.acked(), writer.appended());
            }
            writer.finish(Finish::Close).await.unwrap();
            read(&mut reader, usize::MAX, &mut got).await;
            let (of_writer, of_other) = told_apart(&got);
            assert!(of_writer == expected && of_other == other(0, 100), "{goes_on}");
        }
    });
}

/// Reads until `got` has `wanted` bytes, or the stream ends.
async fn read(reader: &mut Reader, wanted: usize, got: &mut Vec<u8>) {
    while got.len() < wanted {
        match reader.next().await.unwrap() {
            Event::Chunk(bytes) => got.extend(bytes),
            Event::End { .. } => return,
            Event::Gap { .. } => panic!("something was lost"),
            _ => {}
        }
    }
}

#[test]
fn a_holder_that_is_stopped_while_others_append_and_then_goes_on_loses_nothing_and_doubles_nothing()
{
    let daemon = Daemon::start();
    for round in 0..12 {
        let name = format!("/streamfs/{round}");
        daemon.create_with_buffers(&name, ALL, ALL);
        let mut writer = Fed::new(daemon.pfs(["-q", "write", "--stream", "--close", &name]));
        let pid = u64::from(writer.running.pid());
        eventually("it has a lease", || {
            writer.give(super::PIECE);
            super::holder_of(&daemon, &name) == Some(pid)
        });
        let mut others = Vec::new();
        let before = daemon.head(&name);
        writer.give_meanwhile(8 * MIB as usize, |holder| {
            eventually("it is at work", || daemon.head(&name) > before + round * 300_000);
            holder.signal(Signal::STOP);
            for number in 0..3 {
                let bytes = other(number, 100_000);
                daemon.append(&name, bytes.clone());
                others.extend(bytes);
            }
            holder.signal(Signal::CONT);
        });
        let data = writer.finish();
        let read = daemon.pfs(["cat", "--stream", &name]).run().exits(0).quietly();
        let (own, of_others) = told_apart(&read.stdout);
        assert_eq!((digest(&own), digest(&of_others)), (digest(&data), digest(&others)));
        daemon.remove(&name);
    }
}

#[test]
fn a_holder_whose_lease_ends_while_it_waits_for_room_goes_on_when_there_is_some() {
    let daemon = Transport::Shm.daemon_with_http();
    daemon.create_with_buffers(S, MIB, MIB);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    reader.signal(Signal::STOP);
    let late = writer.give_meanwhile(16 * MIB as usize, |holder| {
        eventually("the holder waits", || daemon.stat(S).unwrap()["writers"][0]["waiting"] == true);
        holder.signal(Signal::STOP);
        // This reader ends the lease.
        let late = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
        reader.signal(Signal::CONT);
        eventually("both have read all", || {
            let stat = daemon.stat(S).unwrap();
            let readers = stat["readers"].as_array().unwrap();
            readers.len() == 2 && readers.iter().all(|reader| reader["position"] == stat["head"])
        });
        assert_eq!(super::holder(&daemon), None);
        holder.signal(Signal::CONT);
        late
    });
    let data = writer.finish();
    assert_eq!(digest(&reader.finish().exits(0).quietly().stdout), digest(&data));
    late.finish().exits(0);
}
