//! Mapped writers that write anything at all into their own staging area: they can spoil their own chunks and nothing
//! else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::{Daemon, StagingArea, Transport, eventually, noise};
use pfs_client::{Client, Endpoint, Event, SlowPolicy};
use pfs_proto::{ErrorCode, ReadOptions, Request};

use super::{EndsAtDrop, S, is_unharmed, staging};

#[test]
fn counters_and_lengths_that_cannot_be_are_a_protocol_error_after_what_was_right() {
    const PRODUCED: u64 = StagingArea::PRODUCED;
    type Wrong = fn(&StagingArea);
    let wrongs: [(&str, Wrong); 9] = [
        ("a chunk of no bytes", |area| (area.write(0, b""), area.set(PRODUCED, 16 + 8)).1),
        ("a chunk of 2^64 - 1 bytes", |area| (area.write(u64::MAX, b""), area.set(PRODUCED, 16 + 4096)).1),
        ("a chunk of nearly 2^64 bytes", |area| {
            (area.write(u64::MAX - 7, b""), area.set(PRODUCED, 16 + 4096)).1
        }),
        ("a chunk one byte too large", |area| {
            area.write(StagingArea::MAX_CHUNK + 1, b"");
            area.set(PRODUCED, StagingArea::SIZE);
        }),
        ("a chunk that is longer than what is there", |area| {
            (area.write(100, b"x"), area.set(PRODUCED, 16 + 64)).1
        }),
        ("half a length", |area| (area.write(1, b"x"), area.set(PRODUCED, 16 + 4)).1),
        ("more than there is room for", |area| {
            area.write(1, b"x");
            area.set(PRODUCED, 16 + StagingArea::SIZE + 8);
        }),
        ("less than before", |area| area.set(PRODUCED, 8)),
        ("as much as can be counted", |area| (area.write(1, b"x"), area.set(PRODUCED, u64::MAX)).1),
    ];
    let mut daemon = Daemon::start();
    let before = daemon.memory();
    for (i, (what, wrong)) in wrongs.into_iter().enumerate() {
        let stream = format!("/streamfs/{i}");
        let (mut wire, mut area) = staging(&daemon, &stream);
        area.stage(b"right");
        wire.send(&Request::Staged);
        eventually("what was right is there", || daemon.head(&stream) == 5);
        wrong(&area);
        wire.send(&Request::Staged);
        assert_eq!(wire.refusal(), Some(ErrorCode::Protocol), "{what}");
        assert_eq!((daemon.head(&stream), daemon.figure(&stream, "writers_died")), (5, 1), "{what}");
        daemon.remove(&stream);
    }
    is_unharmed(&mut daemon, before);
}

#[test]
fn a_staged_chunk_that_the_stream_cannot_hold_is_too_large_like_any_other() {
    let daemon = Daemon::with_buffers(64 << 10, 64 << 10);
    let (mut wire, mut area) = staging(&daemon, S);
    area.stage(&noise(1, 100_000));
    wire.send(&Request::Staged);
    assert_eq!(wire.refusal(), Some(ErrorCode::TooLarge));
    assert_eq!(daemon.head(S), 0);
}

const CHUNK: usize = 1_000;
const COUNT: usize = 15_000;

/// Chunk `index` of an honest writer, which a reader knows from any other bytes.
fn honest_chunk(writer: u8, index: usize) -> Vec<u8> {
    let mut chunk = noise(u64::from(writer) << 32 | index as u64, CHUNK);
    chunk[..8].copy_from_slice(b"honestly");
    chunk[8] = writer;
    chunk
}

/// Connects, stages nonsense until it is refused or tired of it, and begins again.
fn spoil(daemon: &Daemon, stream: &str, seed: u64, enough: &AtomicBool) -> (u32, u32) {
    let (mut refused, mut served) = (0, 0);
    for round in 0_u64.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let (mut wire, mut area) = staging(daemon, stream);
        for step in 0..20 {
            let random = noise(seed << 40 | round << 8 | step, 16 << 10);
            let place = u64::from_le_bytes(random[..8].try_into().unwrap());
            match round % 4 {
                // Everything, counters included.
                0 => area.scribble(place % StagingArea::RECORDS, &random),
                // Every word of the header, and not more than that is to be believed of it.
                1 => area.set(step % 64, place),
                // Chunks as they should be, of which the bytes and then the lengths change while they are copied.
                2 => {
                    area.stage(&random);
                    wire.send(&Request::Staged);
                    for _ in 0..4 {
                        area.scribble(StagingArea::RECORDS + place % (StagingArea::SIZE / 2), &random);
                    }
                }
                // Chunks as they should be, of which only the bytes change.
                _ => {
                    let at = area.word(StagingArea::CONSUMED) % StagingArea::SIZE;
                    let at = at.min(StagingArea::SIZE - 20_000);
                    area.stage(&random);
                    wire.send(&Request::Staged);
                    area.scribble(StagingArea::RECORDS + at + 8, &random[..8_000]);
                }
            }
            wire.send(&Request::Staged);
        }
        wire.send(&Request::Finish { close: false });
        match wire.refusal() {
            None => served += 1,
            Some(ErrorCode::Protocol) => refused += 1,
            Some(other) => panic!("refused with {other:?}"),
        }
    }
    (refused, served)
}

/// Reads to the end, and checks that the chunks of each honest writer are all there, whole and in order.
async fn check(daemon: &Daemon, mapping: bool) {
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap().with_mapping(mapping);
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut reader = client.reader(S, options).await.unwrap();
    let mut next = [0; 2];
    loop {
        match reader.next().await.unwrap() {
            Event::Chunk(chunk) if chunk.starts_with(b"honestly") => {
                let writer = chunk[8];
                let index = next[usize::from(writer)];
                assert!(
                    chunk == honest_chunk(writer, index)[..],
                    "chunk {index} of writer {writer} is another one"
                );
                next[usize::from(writer)] += 1;
            }
            Event::End { .. } => break,
            Event::Gap { from, to, .. } => panic!("lost {from}..{to}"),
            _ => {}
        }
    }
    assert_eq!(next, [COUNT; 2]);
}

#[test]
fn scribbled_staging_areas_disturb_nobody_else() {
    let mut daemon = Daemon::with_buffers(256 << 10, 256 << 10);
    daemon.create(S);
    let (enough, before) = (AtomicBool::new(false), daemon.memory());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (refused, served) = thread::scope(|scope| {
        let spoilers = [(S, 1), (S, 2), ("/streamfs/other", 3)]
            .map(|(stream, seed)| (&daemon, stream, seed, &enough))
            .map(|(daemon, stream, seed, enough)| scope.spawn(move || spoil(daemon, stream, seed, enough)));
        let honest = scope.spawn(|| {
            let _end = EndsAtDrop(&enough);
            let write = |(number, transport): (u8, Transport)| {
                let all: Vec<u8> = (0..COUNT).flat_map(|index| honest_chunk(number, index)).collect();
                let file = daemon.dir().join(format!("data-{number}"));
                std::fs::write(&file, all).unwrap();
                let write = daemon.pfs_on(
                    transport,
                    ["-q", "write", "--stream", "--wait-readers", "2", "--chunk-size", "1000", S],
                );
                write.stdin_file(&file).spawn()
            };
            for writer in [(0, Transport::Shm), (1, Transport::Unix)].map(write) {
                writer.finish().exits(0).quietly();
            }
        });
        let checking = scope.spawn(|| {
            runtime.block_on(async { tokio::join!(check(&daemon, true), check(&daemon, false)) });
        });
        honest.join().unwrap();
        let counts = spoilers.map(|spoiler| spoiler.join().unwrap());
        daemon.close(S);
        checking.join().unwrap();
        counts.into_iter().fold((0, 0), |(refused, served), more| (refused + more.0, served + more.1))
    });
    assert!(refused > 0 && served > 0, "refused {refused} times, served {served} times");
    is_unharmed(&mut daemon, before);
}
