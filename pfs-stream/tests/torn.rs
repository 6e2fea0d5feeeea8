//! Stress test for torn reads: readers on other threads are lapped over and over, and each byte
//! must be the one of its offset.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pfs_stream::*;

/// Duration of the test; `PFS_TEST_SECONDS` overrides it.
fn duration() -> Duration {
    let seconds = std::env::var("PFS_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_millis(seconds.map_or(500, |seconds: u64| seconds * 1000))
}

/// A byte that identifies its offset: it differs from neighbours in the same lap and from the same
/// place in other laps.
fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16) ^ (offset >> 24)) as u8
}

/// What a reader has received so far.
struct Followed {
    position: u64,
    delivered: u64,
    lost: u64,
}

impl Followed {
    fn from(reader: &Reader) -> Self {
        Self { position: reader.start(), delivered: 0, lost: 0 }
    }

    fn data(&mut self, bytes: &[u8]) {
        let wrong =
            bytes.iter().zip(self.position..).find(|(byte, offset)| **byte != byte_at(*offset));
        assert_eq!(wrong, None, "a wrong byte for its offset");
        self.position += bytes.len() as u64;
        self.delivered += bytes.len() as u64;
    }

    fn gap(&mut self, from: u64, to: u64) {
        assert_eq!(from, self.position);
        self.position = to;
        self.lost += to - from;
    }
}

/// Reads until the end; returns delivered and lost bytes.
fn follow(mut reader: Reader) -> (u64, u64) {
    let mut followed = Followed::from(&reader);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.read_blocking(&mut bytes, 4096).unwrap() {
            Read::Data { .. } => followed.data(&bytes),
            Read::Gap { from, to, .. } => followed.gap(from, to),
            Read::End(_) => return (followed.delivered, followed.lost),
        }
    }
}

/// A sink that takes parts of chunks.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Sink for Parts {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn takes_parts(&self) -> bool {
        true
    }
}

/// Like [`follow`], but takes chunks in parts. The parts of a chunk whose rest is lost count as
/// lost.
fn follow_in_parts(mut reader: Reader) -> (u64, u64) {
    let mut followed = Followed::from(&reader);
    let (mut parts, mut pending) = (Parts::default(), 0);
    loop {
        parts.0.clear();
        if reader.peek(followed.position, 1000, &mut parts.0).is_some() {
            let wrong = parts
                .0
                .drain(..)
                .zip(followed.position..)
                .find(|(byte, offset)| *byte != byte_at(*offset));
            assert_eq!(wrong, None, "a wrong byte for its offset was read");
        }
        match reader.read_blocking(&mut parts, 1000).unwrap() {
            Read::Data { chunks, bytes } => {
                followed.data(&parts.0);
                pending = if chunks == 0 { pending + bytes as u64 } else { 0 };
            }
            Read::Gap { from, to, .. } => {
                followed.position -= pending;
                followed.delivered -= std::mem::take(&mut pending);
                followed.gap(from, to);
            }
            Read::End(_) => return (followed.delivered, followed.lost),
        }
    }
}

/// Like [`follow`], but takes chunk after chunk, large ones by reference.
fn follow_events(mut reader: Reader) -> (u64, u64) {
    let mut followed = Followed::from(&reader);
    loop {
        match reader.next_blocking().unwrap() {
            Event::Chunk(chunk) => followed.data(&chunk),
            Event::Gap { from, to, .. } => followed.gap(from, to),
            Event::End { .. } => return (followed.delivered, followed.lost),
            _ => (),
        }
    }
}

#[test]
fn a_reader_lapped_during_a_copy_sees_no_torn_byte_and_counts_its_loss() {
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    let stream = Stream::new("s", config).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut writer = stream.writer().unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| stream.reader(ReadOptions::default()).unwrap())
            .zip([follow, follow, follow_in_parts])
            .map(|(reader, follow)| scope.spawn(move || follow(reader)))
            .collect();
        let writer = scope.spawn(|| {
            let mut chunk = Vec::new();
            let mut head = 0u64;
            while !stop.load(Relaxed) {
                let len = 1 + head.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1500;
                chunk.clear();
                chunk.extend((head..head + len).map(byte_at));
                writer.try_append(&chunk).unwrap();
                head = writer.offset();
            }
            writer.finish(Finish::Close);
            head
        });
        let until = Instant::now() + duration();
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Relaxed);
        let head = writer.join().unwrap();
        for reader in readers {
            let (delivered, lost) = reader.join().unwrap();
            assert_eq!(delivered + lost, head);
            assert!(delivered > 0);
        }
    });
}

/// Appends chunks that a local stream copies, holds, or holds a copy of, in runs of one kind and
/// mixed. Returns head.
fn append_all_kinds(writer: &mut Writer, mut head: u64) -> u64 {
    for number in 0..256 {
        let random = (head ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let kind = if number % 128 < 64 { number / 16 % 3 } else { random % 3 };
        let len = if kind == 0 { 1 + random % 100 } else { 4096 + random % 4096 };
        let chunk: Vec<u8> = (head..head + len).map(byte_at).collect();
        let appended = match kind {
            1 => writer.try_append(Bytes::from(chunk)),
            _ => writer.try_append(&chunk),
        };
        appended.unwrap();
        head = writer.offset();
    }
    head
}

#[test]
fn lapped_readers_of_a_local_stream_see_no_torn_byte_copied_or_held() {
    let config =
        StreamConfig { ring_buffer_size: 16384, channel_buffer_size: 16384, ..Default::default() };
    let until = Instant::now() + duration();
    // A new stream each time, because a stream changes its index only once in its life.
    while Instant::now() < until {
        let stream = Stream::local("s", config.clone()).unwrap();
        let mut writer = stream.writer().unwrap();
        thread::scope(|scope| {
            let readers: Vec<_> = [follow, follow, follow_events, follow_events]
                .into_iter()
                .map(|follow| (follow, stream.reader(ReadOptions::default()).unwrap()))
                .map(|(follow, reader)| scope.spawn(move || follow(reader)))
                .collect();
            let mut head = 0;
            for _ in 0..if cfg!(miri) { 1 } else { 50 } {
                head = append_all_kinds(&mut writer, head);
            }
            writer.finish(Finish::Close);
            for reader in readers {
                let (delivered, lost) = reader.join().unwrap();
                assert_eq!(delivered + lost, head);
                assert!(delivered > 0);
            }
        });
    }
}

#[test]
fn block_readers_and_several_writers_lose_nothing_and_agree_on_the_order() {
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    let stream = Stream::new("s", config).unwrap();
    let options =
        ReadOptions { policy: SlowPolicy::Block, until: Until::WritersGone, ..Default::default() };
    let outputs: Vec<Vec<u8>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| stream.reader(options).unwrap())
            .map(|mut reader| {
                scope.spawn(move || {
                    let mut bytes = Vec::new();
                    while !matches!(reader.read_blocking(&mut bytes, 512).unwrap(), Read::End(_)) {}
                    assert_eq!(reader.lost_bytes(), 0);
                    bytes
                })
            })
            .collect();
        let writers: Vec<_> = (0..3u8).map(|id| (id, stream.writer().unwrap())).collect();
        for (id, mut writer) in writers {
            scope.spawn(move || {
                for number in 0..5000u32 {
                    let mut chunk = vec![id];
                    chunk.extend(number.to_le_bytes());
                    writer.append_blocking(&chunk).unwrap();
                }
                writer.finish(Finish::KeepOpen);
            });
        }
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    for id in 0..3 {
        let own = outputs[0].chunks_exact(5).filter(|chunk| chunk[0] == id);
        let numbers: Vec<_> =
            own.map(|chunk| u32::from_le_bytes(chunk[1..].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    }
}

#[test]
fn readers_of_a_stream_removed_meanwhile_get_no_byte_of_its_successor() {
    const SIZE: u64 = 4 * 1024 * 1024;
    let until = Instant::now() + duration();
    let config =
        StreamConfig { ring_buffer_size: SIZE, channel_buffer_size: SIZE, ..Default::default() };
    let history: Vec<u8> = (0..SIZE).map(byte_at).collect();
    while Instant::now() < until {
        let stream = Stream::new("s", config.clone()).unwrap();
        let mut writer = stream.writer().unwrap();
        for chunk in history[..].chunks(100_000) {
            writer.try_append(chunk).unwrap();
        }
        let reads = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // Read repeatedly from the start and in large reads, so that the removal
                    // happens in the middle of a copy.
                    while let Ok(mut reader) = stream.reader(ReadOptions::default()) {
                        let mut followed = Followed::from(&reader);
                        let mut bytes = Vec::new();
                        while let Ok(Some(read)) = reader.try_read(&mut bytes, SIZE as usize) {
                            let Read::Data { .. } = read else { panic!("{read:?}") };
                            followed.data(&bytes);
                            bytes.clear();
                            reads.store(true, Relaxed);
                        }
                    }
                });
            }
            while !reads.load(Relaxed) {
                thread::yield_now();
            }
            stream.remove();
        });
    }
}
