//! Corrupted rings: whatever the words of a ring are, reading it, attaching to it and asking for
//! stats terminate.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use pfs_proto::{ReadOptions, SlowPolicy, Start, Until};
use proptest::{collection::vec, prelude::*};

use super::{
    Ring, Violation, layout,
    status::{MOVED, SKIPPED},
};
use crate::{Finish, Read, ReadError, Reader, Sink, Stream, StreamConfig, sync::lock};

const SIZE: u64 = 4096;
/// Bytes of each chunk.
const LEN: u64 = 50;

/// A stream of twenty chunks.
fn stream() -> Stream {
    let config = StreamConfig {
        ring_buffer_size: SIZE,
        channel_buffer_size: SIZE,
        reserve: true,
        ..Default::default()
    };
    let stream = Stream::new("s", config).unwrap();
    let mut writer = stream.writer().unwrap();
    for _ in 0..20 {
        writer.try_append(&[7; LEN as usize]).unwrap();
    }
    writer.finish(Finish::KeepOpen);
    stream
}

fn ring(stream: &Stream) -> Ring {
    lock(&stream.shared.append).ring.ring().clone()
}

/// A reader of that stream that has read five chunks.
fn reader(stream: &Stream) -> Reader {
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let read = reader.try_read(&mut Vec::new(), 5 * LEN as usize).unwrap();
    assert_eq!(read, Some(Read::Data { chunks: 5, bytes: 5 * LEN as usize }));
    reader
}

#[test]
fn each_impossible_word_is_the_right_violation() {
    let start_of = |seq| ring(&stream()).index().start_of(seq);
    let (next, end, head) = (start_of(6), 6 * LEN, start_of(20));
    let cases = [
        (layout::HEAD_SEQ, 3, Violation::Head),
        (layout::HEAD_SEQ, 1 << 63, Violation::Head),
        (layout::HEAD_SEQ, u64::MAX, Violation::Head),
        (layout::HEAD_SEQ, 20 + 1024, Violation::Chunks),
        (layout::TAIL_SEQ, 21, Violation::Head),
        (layout::TAIL_SEQ, u64::MAX, Violation::Head),
        (next, end - LEN - 1, Violation::Offset),
        (next, end - LEN, Violation::Offset),
        (next, u64::MAX, Violation::Offset),
        (next, 5 * LEN + SIZE + 1, Violation::Offset),
        (head, end - LEN, Violation::Offset),
        (head, 5 * LEN + SIZE + 1, Violation::Offset),
        (head, 1 << 62, Violation::Offset),
        (head, u64::MAX, Violation::Offset),
    ];
    for (word, value, violation) in cases {
        let stream = stream();
        let mut reader = reader(&stream);
        ring(&stream).word(word).store(value, Relaxed);
        let mut bytes = Vec::new();
        let read = reader.try_read(&mut bytes, 1024 * 1024);
        assert_eq!(read, Err(ReadError::Corrupt(violation)), "word {word} is {value}");
        assert!(bytes.is_empty());
    }
}

#[test]
fn chunks_before_an_impossible_chunk_can_be_read() {
    let stream = stream();
    let mut reader = reader(&stream);
    ring(&stream).word(ring(&stream).index().start_of(9)).store(0, Relaxed);
    let read = reader.try_read(&mut Vec::new(), 1024 * 1024);
    assert_eq!(read, Ok(Some(Read::Data { chunks: 3, bytes: 3 * LEN as usize })));
    assert_eq!(
        reader.try_read(&mut Vec::new(), 1024 * 1024),
        Err(ReadError::Corrupt(Violation::Offset))
    );
}

#[test]
fn an_impossible_tail_is_a_violation_for_a_lagging_reader_too() {
    let stream = stream();
    let mut reader = reader(&stream);
    let at = ring(&stream).index().start_of(8);
    ring(&stream).word(layout::TAIL_SEQ).store(8, Relaxed);
    // Fewer bytes than chunks, and less than no bytes.
    for offset in [5 * LEN + 2, 5 * LEN - 1] {
        ring(&stream).word(at).store(offset, Relaxed);
        let read = reader.try_read(&mut Vec::new(), 1024 * 1024);
        assert_eq!(read, Err(ReadError::Corrupt(Violation::Offset)), "tail is at {offset}");
    }
    // More bytes than the ring has room for.
    ring(&stream).word(at).store(8 * LEN, Relaxed);
    ring(&stream).word(ring(&stream).index().start_of(20)).store(8 * LEN + SIZE + 1, Relaxed);
    assert_eq!(
        reader.try_read(&mut Vec::new(), 1024 * 1024),
        Err(ReadError::Corrupt(Violation::Offset))
    );
}

/// A sink that takes parts of chunks, and adds headers.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Sink for Parts {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn header_len(&self) -> usize {
        4
    }
}

/// A value close to a small number or a power of two, or any value: mostly impossible in some way.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..2000u64,
        (0..64u32, any::<bool>())
            .prop_map(|(bit, less)| (1u64 << bit).wrapping_sub(u64::from(less))),
        any::<u64>()
    ]
}

/// A word that readers look at.
fn word() -> impl Strategy<Value = usize> {
    let entries = layout::HEADER..layout::HEADER + 2 * 1024;
    prop_oneof![
        Just(layout::HEAD_SEQ),
        Just(layout::TAIL_SEQ),
        Just(layout::STATUS),
        Just(layout::BEGIN_SEQ),
        layout::HEADER..layout::HEADER + 60,
        entries
    ]
}

fn options() -> impl Strategy<Value = ReadOptions> {
    let start = prop_oneof![
        Just(Start::Oldest),
        Just(Start::New),
        (0..2000u64).prop_map(Start::Tail),
        (0..2000u64).prop_map(Start::Offset),
        (0..60u64).prop_map(|seconds| Start::Since(Duration::from_secs(seconds))),
    ];
    let policy =
        prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)];
    let until = prop_oneof![Just(Until::Closed), Just(Until::CaughtUp), Just(Until::WritersGone)];
    (start, policy, until).prop_map(|(start, policy, until)| ReadOptions {
        start,
        policy,
        until,
        ..ReadOptions::default()
    })
}

/// Everything that can be done with a ring. All of it must terminate, whatever the result.
fn use_it(stream: &Stream, options: ReadOptions, readers: &mut Vec<Reader>, most: usize) {
    readers.extend(stream.reader(options));
    for (at, reader) in readers.iter_mut().enumerate() {
        let mut parts = Parts::default();
        let _ = if at % 2 == 0 {
            reader.try_read(&mut Vec::new(), most)
        } else {
            reader.try_read(&mut parts, most)
        };
        let _ = reader.peek(reader.position(), most, &mut parts.0);
        assert!(parts.0.len() <= 3 * SIZE as usize);
    }
    let _ = (stream.stat(), stream.summary(), stream.extent());
    if let Ok(mut writer) = stream.writer() {
        let _ = writer.try_append(&[9; LEN as usize]);
    }
}

#[test]
fn a_status_that_says_that_the_stream_has_skipped_stops_no_reader() {
    let stream = stream();
    let mut reader = reader(&stream);
    while reader.try_read(&mut Vec::new(), 5000).unwrap().is_some() {}
    ring(&stream).word(layout::STATUS).store(MOVED | SKIPPED, Relaxed);
    let _ = reader.try_read(&mut Vec::new(), 5000);
}

proptest! {
    #[test]
    fn whatever_the_words_of_a_ring_are_nothing_that_is_done_with_it_goes_on_for_ever(
        steps in vec((vec((word(), value()), 0..4), options(), 1..5000usize), 1..12)
    ) {
        let stream = stream();
        let mut readers = vec![reader(&stream)];
        for (corrupt, options, most) in steps {
            for (word, value) in corrupt {
                ring(&stream).word(word).store(value, Relaxed);
            }
            use_it(&stream, options, &mut readers, most);
        }
    }
}

#[test]
fn every_read_returns_while_the_words_of_a_ring_keep_changing() {
    let stream = stream();
    let stop = Arc::new(AtomicBool::new(false));
    let corrupting = thread::spawn({
        let (ring, stop) = (ring(&stream).clone(), Arc::clone(&stop));
        move || {
            let mut random = 1u64;
            while !stop.load(Relaxed) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let (which, value) = (random >> 60, (random >> 40) % 2000);
                let word = match which {
                    0..4 => layout::TAIL_SEQ,
                    4..8 => layout::HEAD_SEQ,
                    _ => layout::HEADER + 2 * (value as usize % 60),
                };
                ring.word(word).store(if which % 2 == 0 { value % 30 } else { random }, Relaxed);
            }
        }
    });
    let mut readers = vec![];
    for round in 0..5000 {
        let options = ReadOptions { start: Start::Offset(round % 1000), ..Default::default() };
        use_it(&stream, options, &mut readers, 1000);
        readers.truncate(4);
    }
    stop.store(true, Relaxed);
    corrupting.join().unwrap();
}
