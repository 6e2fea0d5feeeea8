//! Chunks that take different ways into the ring buffer stay in order.

use std::{io::Write as _, time::Duration};

use harness::{Daemon, Transport, digest, noise};
use pfs_client::{Client, Endpoint, Event, Finish, ReadOptions, SlowPolicy, WriteOptions};
use pfs_proto::StreamPath;

use super::S;

const KIB: usize = 1024;

/// Chunk sizes. Small chunks are queued, larger ones are sent without a copy, and those above 1 MiB
/// are sent in several frames.
const SIZES: [usize; 16] = [
    1,
    8 * KIB - 1,
    8 * KIB,
    7,
    200 * KIB,
    0,
    64 * KIB,
    1_500 * KIB,
    1,
    1,
    3_000 * KIB,
    100 * KIB,
    129 * KIB,
    130 * KIB,
    5,
    1_024 * KIB + 1,
];

#[test]
fn large_chunks_among_small_ones_of_one_writer_keep_their_order() {
    let daemon = Daemon::with_buffers(4 * 1024 * 1024, 4 * 1024 * 1024);
    daemon.create(S);
    let chunks: Vec<Vec<u8>> =
        (0..10).flat_map(|_| SIZES).enumerate().map(|(i, len)| noise(i as u64, len)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for shm in [true, false] {
            let client =
                Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap().with_shm(shm);
            let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
            let path: StreamPath = S.parse().unwrap();
            let mut readers = Vec::new();
            for shm in [true, false] {
                let client =
                    Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap().with_shm(shm);
                let options = ReadOptions { start: pfs_client::Start::New, ..options };
                readers.push(client.reader(&path, options).await.unwrap());
            }
            let [mut shm, mut other] = <[_; 2]>::try_from(readers).unwrap();
            let write = async {
                let mut writer = client.writer(&path, WriteOptions::default()).await.unwrap();
                for (i, chunk) in chunks.iter().enumerate() {
                    // Held back or not, and awaited or not, in all combinations.
                    if i % 3 == 0 {
                        writer.push(chunk).await.unwrap()
                    } else {
                        writer.append(chunk).await.unwrap()
                    }
                    if i % 11 == 10 {
                        writer.flush().await.unwrap();
                        assert_eq!(writer.acked(), writer.appended());
                    }
                }
                assert_eq!(
                    writer.appended(),
                    chunks.iter().filter(|chunk| !chunk.is_empty()).count() as u64
                );
                writer.finish(Finish::KeepOpen).await.unwrap()
            };
            let ((), (), end) =
                tokio::join!(follow(&mut shm, &chunks), follow(&mut other, &chunks), write);
            assert_eq!((end, end), (shm.position(), other.position()));
        }
    });
}

async fn follow(reader: &mut pfs_client::Reader, chunks: &[Vec<u8>]) {
    for (i, expected) in chunks.iter().enumerate().filter(|(_, chunk)| !chunk.is_empty()) {
        let chunk = loop {
            match reader.next().await.unwrap() {
                Event::Attached { .. } => {}
                Event::Chunk(chunk) => break chunk,
                other => panic!("{other:?} in place of chunk {i}"),
            }
        };
        assert!(
            chunk == expected[..],
            "chunk {i} of {} bytes is another one of {}",
            expected.len(),
            chunk.len()
        );
    }
}

#[test]
fn three_hundred_thousand_one_byte_chunks_arrive_over_shm_and_unix() {
    const COUNT: usize = 300_000;
    let data = noise(1, COUNT);
    for writers_transport in Transport::OF_THE_SOCKET {
        // So small that it wraps around many times and readers and writers wait for each other.
        let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
        let file = daemon.dir().join("data");
        std::fs::write(&file, &data).unwrap();
        let readers = Transport::OF_THE_SOCKET.map(|transport| {
            let mut reader = daemon
                .pfs_on(transport, ["-q", "cat", "--stream", "--slow", "block", S])
                .stdout_pipe()
                .spawn();
            let got = reader.digest_stdout();
            (reader, got)
        });
        let args =
            ["-q", "write", "--stream", "--close", "--chunk-size", "1", "--wait-readers", "2", S];
        let writer = daemon.pfs_on(writers_transport, args).stdin_file(&file).spawn();
        writer.finish().exits(0).quietly();
        assert_eq!(daemon.stat_number(S, "chunks"), COUNT as u64);
        for (reader, got) in readers {
            reader.finish().exits(0).quietly();
            assert_eq!(got.join().unwrap(), digest(&data));
        }
    }
}

/// Runs in its own thread: a writer that polled in a loop would never let this thread notice.
#[test]
fn bytes_from_a_file_after_a_large_chunk_wait_for_their_turn_and_let_others_run() {
    /// More than the ring buffer, the daemon and the socket hold.
    const TIMES: usize = 8;
    let daemon = Daemon::with_buffers(256 * 1024, 256 * 1024);
    daemon.create(S);
    let reader = daemon.reader(S, ["--slow", "block"]);
    reader.signal(harness::Signal::STOP);
    let (large, small) = (noise(1, 200 * KIB), noise(2, 100));
    let expected = [large.repeat(TIMES), small.clone()].concat();
    let (socket, pid) = (daemon.socket(), reader.pid());
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(Endpoint::Unix(socket)).await.unwrap();
            let mut writer = client.writer(S, WriteOptions::default()).await.unwrap();
            let (input, mut output) = std::io::pipe().unwrap();
            output.write_all(&small).unwrap();
            for _ in 0..TIMES {
                // The writer takes the chunk over at once, although the reader leaves no room
                // for it.
                let append = tokio::time::timeout(Duration::from_millis(20), writer.append(&large));
                let _ = append.await.map(Result::unwrap);
            }
            let waits =
                tokio::time::timeout(Duration::from_millis(20), writer.append_from(&input, KIB));
            assert!(waits.await.is_err(), "it was not its turn");
            harness::kill(pid, harness::Signal::CONT);
            assert_eq!(writer.append_from(&input, KIB).await.unwrap().unwrap(), small.len());
            writer.finish(Finish::Close).await.unwrap();
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(harness::deadline()).expect("the writer has finished");
    assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&expected));
}
