//! Tests of local streams, which hold large chunks by reference, against a model that never forgets
//! a byte.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const RING: u64 = 64 * 1024;
const CHANNEL: u64 = 40_000;

#[derive(Clone, Debug)]
enum Operation {
    Append { len: usize, shared: bool },
    Join(Start, SlowPolicy),
    Event(usize),
    Read(usize, usize),
    Leave(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    // Mostly small chunks, so that there are more chunks than the first index has entries.
    let len = prop_oneof![6 => 1..100_usize, 1 => 4000..4200_usize, 1 => 1..40_000_usize];
    let start = prop_oneof![
        Just(Start::Oldest),
        Just(Start::New),
        (0..100_000_u64).prop_map(Start::Tail),
        (0..500_000_u64).prop_map(Start::Offset),
    ];
    let policy =
        prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)];
    prop_oneof![
        12 => (len, any::<bool>()).prop_map(|(len, shared)| Operation::Append { len, shared }),
        3 => (start, policy).prop_map(|(start, policy)| Operation::Join(start, policy)),
        12 => (0..6_usize).prop_map(Operation::Event),
        6 => (0..6_usize, 1..100_000_usize).prop_map(|(who, most)| Operation::Read(who, most)),
        2 => (0..6_usize).prop_map(Operation::Leave),
    ]
}

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9) >> 13) as u8
}

fn is_written(from: u64, bytes: &[u8]) -> bool {
    bytes.iter().zip(from..).all(|(byte, offset)| *byte == byte_at(offset))
}

struct Follower {
    reader: Reader,
    position: u64,
    lost: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 192 }))]
    #[test]
    fn it_keeps_every_promise_of_any_other_stream(operations in prop::collection::vec(operation(), 1..200)) {
        let stream = Stream::local("s", config(RING, CHANNEL)).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut ends = vec![0_u64];
        let mut followers: Vec<Follower> = Vec::new();
        for operation in operations {
            let head = *ends.last().unwrap();
            match operation {
                Operation::Append { len, shared } => {
                    let bytes: Bytes = (head..head + len as u64).map(byte_at).collect();
                    let before = stream.bytes_written();
                    let appended = if shared {
                        let mut append = std::pin::pin!(writer.append(bytes));
                        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                        match append.as_mut().poll(&mut context) {
                            std::task::Poll::Ready(appended) => appended,
                            std::task::Poll::Pending => Err(WriteError::Full),
                        }
                    } else {
                        writer.try_append(&bytes)
                    };
                    match appended {
                        Ok(()) => {
                            prop_assert_eq!(writer.offset(), head + len as u64);
                            ends.push(writer.offset());
                        }
                        // The append was dropped while it waited for a `block` reader: nothing of
                        // it is in the stream.
                        Err(error) => {
                            prop_assert_eq!(error, WriteError::Full);
                            prop_assert_eq!(stream.bytes_written(), before);
                        }
                    }
                }
                Operation::Join(start, policy) => {
                    let options = ReadOptions { start, policy, ..Default::default() };
                    if let Ok(reader) = stream.reader(options) {
                        followers.push(Follower { position: reader.start(), reader, lost: 0 });
                    }
                }
                Operation::Leave(who) if who < followers.len() => drop(followers.swap_remove(who)),
                Operation::Leave(_) => {}
                Operation::Event(who) | Operation::Read(who, _) => {
                    let Some(follower) = followers.get_mut(who) else { continue };
                    let Follower { reader, position, lost } = follower;
                    let mut gap = |from: u64, to: u64, chunks: u64, position: &mut u64| {
                        let bounds = (ends.binary_search(&to), ends.binary_search(&from));
                        let exact = match bounds {
                            (Ok(to), Ok(from)) => chunks == 0 || chunks == (to - from) as u64,
                            (Ok(_), Err(_)) => true,
                            _ => false,
                        };
                        *lost += to - from;
                        let right = exact && from == *position && to > from;
                        *position = to;
                        right
                    };
                    if let Operation::Read(_, most) = operation {
                        let mut bytes = Vec::new();
                        match reader.try_read(&mut bytes, most) {
                            Ok(Some(Read::Data { bytes: len, .. })) => {
                                prop_assert_eq!(len, bytes.len());
                                prop_assert!(is_written(*position, &bytes));
                                *position += len as u64;
                                prop_assert!(ends.binary_search(position).is_ok(), "whole chunks");
                            }
                            Ok(Some(Read::Gap { from, to, chunks })) => prop_assert!(gap(from, to, chunks, position)),
                            Ok(other) => prop_assert_eq!((other, *position), (None, head)),
                            Err(_) => drop(followers.swap_remove(who)),
                        }
                    } else {
                        match reader.try_next() {
                            Ok(Some(Event::Chunk(chunk))) => {
                                prop_assert!(is_written(*position, &chunk));
                                *position += chunk.len() as u64;
                                prop_assert!(ends.binary_search(position).is_ok(), "a whole chunk");
                            }
                            Ok(Some(Event::Gap { from, to, chunks })) => prop_assert!(gap(from, to, chunks, position)),
                            Ok(other) => prop_assert_eq!((other, *position), (None, head)),
                            Err(_) => drop(followers.swap_remove(who)),
                        }
                    }
                }
            }
            for Follower { reader, position, lost } in &followers {
                prop_assert_eq!((reader.position(), reader.lost_bytes()), (*position, *lost));
            }
        }
    }
}

#[test]
fn a_local_stream_keeps_a_full_ring_while_chunk_sizes_change() {
    for ring in [4096, RING] {
        let stream = Stream::local("s", config(ring, ring)).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut ends = vec![0_u64];
        for len in [4096; 40].into_iter().chain([10; 100]).chain([4096; 40]) {
            let head = *ends.last().unwrap();
            let bytes: Bytes = (head..head + len).map(byte_at).collect();
            writer.try_append(bytes).unwrap();
            ends.push(head + len);
            let start = *ends.iter().find(|start| head + len - **start <= ring).unwrap();
            let mut oldest = reader(&stream);
            assert_eq!(oldest.start(), start);
            let mut history = Vec::new();
            while oldest.try_read(&mut history, 10_000).unwrap().is_some() {}
            assert!(history.len() as u64 == head + len - start && is_written(start, &history));
        }
    }
}

#[test]
fn a_late_reader_finds_a_held_chunk_of_minimum_size_between_small_ones() {
    let stream = Stream::local("s", config(RING, CHANNEL)).unwrap();
    let mut writer = stream.writer().unwrap();
    let chunks = [1, 4096, 1].map(|len| Bytes::from(vec![7; len]));
    for chunk in &chunks {
        writer.try_append(chunk).unwrap();
    }
    for mut reader in [reader(&stream), reader(&stream)] {
        for chunk in &chunks {
            assert!(matches!(reader.try_next(), Ok(Some(Event::Chunk(got))) if got == chunk));
        }
        assert_eq!(reader.try_next().unwrap(), None);
    }
}

#[test]
fn large_chunks_arrive_without_a_copy_and_small_ones_whole() {
    let stream = Stream::local("s", config(1024 * 1024, 1024 * 1024)).unwrap();
    let mut reader = reader(&stream);
    let mut writer = stream.writer().unwrap();
    let (large, small) = (Bytes::from(vec![1; 100_000]), Bytes::from_static(b"small"));
    for chunk in [&large, &small, &large] {
        pollster::block_on(writer.append(chunk.clone())).unwrap();
    }
    for (chunk, same) in [(&large, true), (&small, false), (&large, true)] {
        let Some(Event::Chunk(got)) = reader.try_next().unwrap() else { panic!() };
        assert_eq!((&got, got.as_ptr() == chunk.as_ptr()), (chunk, same));
    }
    // Bytes that the stream cannot keep by reference are copied once, for all readers.
    let mut other = super::reader(&stream);
    writer.try_append(&[2; 50_000]).unwrap();
    let last = |reader: &mut Reader| loop {
        if let Some(Event::Chunk(chunk)) = reader.try_next().unwrap()
            && chunk.len() == 50_000
        {
            return chunk;
        }
    };
    assert_eq!(last(&mut reader).as_ptr(), last(&mut other).as_ptr());
}

#[test]
fn a_reader_that_takes_references_wakes_the_writer_and_keeps_them_after_a_removal() {
    let stream = Stream::local("s", config(4 << 16, 4 << 16)).unwrap();
    let mut writer = stream.writer().unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let mut reader = stream.reader(options).unwrap();
    let chunk = Bytes::from(vec![1; 1 << 16]);
    for _ in 0..4 {
        writer.try_append(chunk.clone()).unwrap();
    }
    let woken = std::sync::Arc::new(Woken::default());
    let waker = std::task::Waker::from(std::sync::Arc::clone(&woken));
    let mut append = Box::pin(writer.append(chunk.clone()));
    let mut poll = || append.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_ready();
    assert!(!poll());
    assert_eq!(reader.try_next().unwrap(), Some(Event::Chunk(chunk.clone())));
    assert_eq!(reader.position(), 1 << 16);
    assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
    assert!(poll());
    stream.remove();
    // Chunks in the reader's batch are its own, whether references or copies.
    for _ in 0..3 {
        assert_eq!(reader.try_next().unwrap(), Some(Event::Chunk(chunk.clone())));
    }
    assert!(matches!(reader.try_next(), Err(ReadError::Removed)));
}

/// Bytes whose owners are counted.
struct Counted(Vec<u8>, #[allow(dead_code)] std::sync::Arc<()>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Appends `count` chunks of this size. The returned counter's strong count, minus one, is the
/// number of chunks that are still referenced.
fn append_counted(writer: &mut Writer, count: usize, size: usize) -> std::sync::Arc<()> {
    let alive = std::sync::Arc::new(());
    for _ in 0..count {
        let owner = Counted(vec![1; size], std::sync::Arc::clone(&alive));
        writer.try_append(Bytes::from_owner(owner)).unwrap();
    }
    alive
}

#[test]
fn a_local_stream_keeps_little_more_than_its_ring_whatever_readers_do() {
    let stream = Stream::local("s", config(1024 * 1024, 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut behind = reader(&stream);
    append_counted(&mut writer, 3, 4096);
    assert!(behind.try_next().unwrap().is_some());
    // These readers are never polled again. Some attach when there is much history already, and
    // some detach.
    let mut idle = vec![behind];
    for _ in 0..20 {
        idle.extend((0..3).map(|_| reader(&stream)));
        let alive = append_counted(&mut writer, 1000, 4096);
        let held = std::sync::Arc::strong_count(&alive) - 1;
        assert!((256..=256 + 16).contains(&held), "at most a sixteenth more than 1 MiB: {held}");
        idle.pop();
    }
    let alive = append_counted(&mut writer, 100, 10_000);
    drop((idle, writer, stream));
    assert_eq!(std::sync::Arc::strong_count(&alive), 1, "no handle is left that keeps a chunk");
}

#[test]
fn a_reader_holds_at_most_64_unreturned_chunks_and_2_mib() {
    let stream = Stream::local("s", config(8 * 1024 * 1024, 8 * 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    for (size, count, kept) in
        [(4096, 80, 64), (100_000, 30, 20), (1024 * 1024, 7, 2), (3 * 1024 * 1024, 2, 1)]
    {
        let options = ReadOptions { start: Start::New, ..Default::default() };
        let mut reader = stream.reader(options).unwrap();
        let alive = append_counted(&mut writer, count, size);
        assert!(matches!(reader.try_next(), Ok(Some(Event::Chunk(_)))));
        // The ring buffer wraps around completely: only the reader's batch is left, without the
        // chunk that was returned.
        append_counted(&mut writer, 8, 2 * 1024 * 1024);
        assert_eq!(std::sync::Arc::strong_count(&alive) - 1, kept - 1, "chunks of {size}");
    }
}

#[test]
fn a_large_chunk_whose_cell_is_taken_is_copied_instead_of_held() {
    // 64 cells suffice for large chunks alone, but not with this many small chunks between them.
    let stream = Stream::local("s", config(128 * 1024, 128 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut reader = reader(&stream);
    let mut sent = std::collections::VecDeque::new();
    let (mut same, mut copied) = (0, 0);
    for round in 0..200_usize {
        for number in 0..100_usize {
            let len = if number % 50 == 7 || number == 30 + round % 30 {
                4096 + number
            } else {
                1 + round % 90
            };
            let chunk = Bytes::from(vec![(round + number) as u8; len]);
            writer.try_append(chunk.clone()).unwrap();
            sent.push_back(chunk);
        }
        // The reader stays some rounds behind.
        while sent.len() > 500 {
            let (Some(Event::Chunk(got)), Some(chunk)) =
                (reader.try_next().unwrap(), sent.pop_front())
            else {
                panic!()
            };
            assert_eq!(got, chunk);
            if got.len() >= 4096 {
                *if got.as_ptr() == chunk.as_ptr() { &mut same } else { &mut copied } += 1;
            }
        }
    }
    assert!(same > 100 && copied > 100, "{same} shared and {copied} copied");
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_reader_that_cannot_be_handed_out_goes_on_in_this_process() {
    let [shared, local] = both(4096);
    assert!(reader(&shared).hand_out(false).is_ok());
    local.writer().unwrap().try_append(b"here").unwrap();
    let (mut reader, error) = reader(&local).hand_out(false).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(reader.try_next().unwrap(), Some(Event::Chunk("here".into())));
    // A reader with chunks in its batch cannot be handed to another process either.
    let mut writer = shared.writer().unwrap();
    let mut reader = super::reader(&shared);
    for _ in 0..2 {
        writer.try_append(b"x").unwrap();
    }
    reader.try_next().unwrap();
    let (mut reader, _) = reader.hand_out(false).unwrap_err();
    assert_eq!(reader.try_next().unwrap(), Some(Event::Chunk("x".into())));
    assert!(reader.hand_out(false).is_ok());
}

/// Returns different bytes on each call.
struct Fickle(std::sync::atomic::AtomicUsize);

impl AsRef<[u8]> for Fickle {
    fn as_ref(&self) -> &[u8] {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        &[7; 100_000][..if asked == 0 { 5000 } else { 100_000 }]
    }
}

#[test]
fn a_chunk_is_the_bytes_of_its_first_as_ref() {
    for stream in both(1 << 16) {
        let fickle = Fickle(0.into());
        let mut writer = stream.writer().unwrap();
        writer.try_append(&fickle).unwrap();
        assert_eq!(stream.bytes_written(), 5000);
        assert_eq!(reader(&stream).next_blocking().unwrap(), Event::Chunk(vec![7; 5000].into()));
    }
}
