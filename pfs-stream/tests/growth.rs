//! Tests of streams that grow: their memory, and that readers never notice a move to a larger ring
//! buffer.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)] // test helpers, not known to clippy as tests

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Wake},
};

use pfs_stream::*;
use proptest::{collection::vec, prelude::*};

fn config(size: u64) -> StreamConfig {
    StreamConfig::default().buffer_size(size)
}

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

fn chunk(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

fn append(writer: &mut Writer, len: u64) -> Result<(), WriteError> {
    let from = writer.offset();
    writer.try_append(chunk(from, len))
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

/// A reader, and what it has received.
struct Following {
    reader: Reader,
    /// End of the bytes received, parts of a chunk included.
    at: u64,
    lost: u64,
    in_parts: bool,
}

impl Following {
    fn new(stream: &Stream, options: ReadOptions, in_parts: bool) -> Self {
        let reader = stream.reader(options).unwrap();
        Self { at: reader.position(), reader, lost: 0, in_parts }
    }

    /// Performs one read; returns false if there is nothing to read.
    fn read(&mut self, most: usize) -> bool {
        let mut parts = Parts::default();
        let read = if self.in_parts {
            self.reader.try_read(&mut parts, most)
        } else {
            self.reader.try_read(&mut parts.0, most)
        };
        match read.unwrap() {
            Some(Read::Data { .. }) => {
                assert_eq!(parts.0, chunk(self.at, parts.0.len() as u64), "from {}", self.at);
                self.at += parts.0.len() as u64;
            }
            Some(Read::Gap { from, to, .. }) => {
                assert!(from <= self.at && to > from);
                (self.at, self.lost) = (to, self.lost + to - from);
            }
            Some(Read::End(end)) => panic!("{end:?}"),
            None => return false,
        }
        true
    }
}

#[test]
fn memory_grows_with_the_contents_and_nothing_is_lost_before_the_stream_is_full() {
    const SIZE: u64 = 1024 * 1024;
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("s", config(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 100).unwrap();
    // The ring buffer and the stream's overhead.
    assert!((1536 + 592..4096).contains(&registry.memory()), "{} bytes for 100", registry.memory());
    let (mut most, beside) = (0, 2048);
    while writer.offset() + 1000 <= SIZE {
        append(&mut writer, 1000).unwrap();
        let (taken, holds) = (registry.memory(), writer.offset());
        most = most.max(taken.saturating_sub(beside) / holds);
        assert_eq!(stream.extent().tail, 0, "head is {holds}");
        assert_eq!(stream.reader(ReadOptions::default()).unwrap().start(), 0);
    }
    // While a stream moves, it has two ring buffers, each with an index.
    assert!(most < 10, "{most} bytes of memory per byte");
    let full = stream.stat();
    assert_eq!((full.capacity, full.memory), (SIZE, registry.memory()));
    append(&mut writer, 1000).unwrap();
    assert_eq!(stream.stat().capacity, SIZE);
    assert!(stream.extent().tail > 0);
    stream.remove();
    drop((stream, writer));
    registry.remove("s");
    assert_eq!(registry.memory(), 0);
}

#[test]
fn large_chunks_after_many_small_ones_drop_nothing_while_the_stream_moves() {
    let stream = Stream::new("s", config(16 * 1024 * 1024)).unwrap();
    let mut reader = Following::new(&stream, ReadOptions::default(), false);
    let mut writer = stream.writer().unwrap();
    while stream.stat().capacity < 1024 * 1024 {
        append(&mut writer, 90).unwrap();
    }
    let (capacity, moves) = (stream.stat().capacity, stream.stat().moves);
    // Fill to just below the point where copying starts, with chunks so small that each append will
    // copy only a part of them.
    while writer.offset() < capacity * 7 / 10 {
        append(&mut writer, 90).unwrap();
    }
    assert_eq!(stream.stat().moves, moves);
    while stream.stat().moves == moves {
        append(&mut writer, 60_000).unwrap();
        assert_eq!(stream.extent().tail, 0, "head is {}", writer.offset());
    }
    assert!(writer.offset() > capacity, "the copy took more than one append");
    while reader.read(1024 * 1024) {}
    assert_eq!((reader.at, reader.lost), (writer.offset(), 0));
}

#[test]
fn a_stream_that_cannot_grow_keeps_less_history_and_goes_on() {
    let registry = Registry::new(Limits { max_streams: 2, max_memory: 64 * 1024 });
    let stream = registry.create("s", config(1024 * 1024)).unwrap();
    let mut reader = Following::new(&stream, ReadOptions::default(), false);
    let mut writer = stream.writer().unwrap();
    for _ in 0..1000 {
        append(&mut writer, 500).unwrap();
        assert!(registry.memory() <= 64 * 1024);
    }
    let held = stream.extent();
    assert!(held.head == 500_000 && held.tail > 0 && held.head - held.tail >= 8000, "{held:?}");
    while reader.read(1024 * 1024) {}
    assert_eq!((reader.at, reader.lost), (500_000, held.tail));

    // Only a chunk that cannot be held at all is refused, and the writer goes on.
    assert!(matches!(append(&mut writer, 100_000), Err(WriteError::NoMemory { .. })));
    append(&mut writer, 500).unwrap();
    while reader.read(1024 * 1024) {}
    assert_eq!(reader.at, 500_500);

    // The stream grows once there is memory.
    registry.set_limits(Limits::UNLIMITED, 0);
    append(&mut writer, 100_000).unwrap();
    for _ in 0..1000 {
        append(&mut writer, 500).unwrap();
    }
    let grown = stream.extent();
    assert!(grown.head - grown.tail >= 600_000, "{grown:?}");
}

/// Appends until the ring buffer is large and a larger one is partly filled with its contents.
fn append_until_it_moves(stream: &Stream, writer: &mut Writer) -> StreamStat {
    loop {
        append(writer, 4096).unwrap();
        let stat = stream.stat();
        if stat.capacity >= 1024 * 1024 && stat.memory > 3 * stat.capacity {
            return stat;
        }
    }
}

#[test]
fn a_large_chunk_drops_nothing_while_the_stream_moves_to_a_ring_too_small_for_both() {
    let stream = Stream::new("s", config(64 * 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    let stat = append_until_it_moves(&stream, &mut writer);
    append(&mut writer, 4 * stat.capacity - 100).unwrap();
    assert_eq!(stream.extent().tail, 0);
}

#[test]
fn removing_a_stream_frees_its_half_filled_larger_ring_despite_attached_readers() {
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("s", config(64 * 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    append_until_it_moves(&stream, &mut writer);
    let _reader = stream.reader(ReadOptions::default()).unwrap();
    registry.remove("s");
    // Miri cannot return memory to the system while it is still referenced.
    let kept = if cfg!(any(miri, not(target_os = "linux"))) { stream.stat().memory } else { 0 };
    assert!(registry.memory() <= kept, "{} bytes", registry.memory());
}

#[test]
fn a_small_removed_stream_is_not_counted_by_its_quota_despite_attached_readers() {
    let registry = Registry::new(Limits::UNLIMITED);
    let quota = Quota::new(Limits { max_streams: 1, ..Limits::UNLIMITED });
    let stream = registry.charged_to(&quota).create("s", config(1024 * 1024)).unwrap();
    let reader = stream.reader(ReadOptions::default()).unwrap();
    append(&mut stream.writer().unwrap(), 100).unwrap();
    registry.remove("s");
    assert_eq!(quota.streams(), 0);
    assert!(quota.memory() < 1024, "{} bytes for a ring of a few hundred", quota.memory());
    drop((stream, reader));
    assert_eq!((quota.memory(), registry.memory()), (0, 0));
}

#[test]
fn a_stream_can_be_replaced_by_one_that_needs_all_its_memory_even_during_a_move() {
    let registry = Registry::new(Limits { max_streams: 1, max_memory: 20 * 1024 * 1024 });
    let stream = registry.create("s", config(64 * 1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    append_until_it_moves(&stream, &mut writer);
    drop((writer, stream));
    registry.set_limits(Limits { max_streams: 1, max_memory: registry.memory() }, 0);
    let as_large = config(4 * 1024 * 1024).reserve(true);
    assert!(
        registry.replace_with("s", as_large, |_| ()).is_ok(),
        "{} bytes are in use",
        registry.memory()
    );
}

#[test]
fn a_quota_bounds_the_growth_of_a_stream() {
    let registry = Registry::new(Limits::UNLIMITED);
    let quota = Quota::new(Limits { max_streams: 1, max_memory: 20_000 });
    let stream = registry.charged_to(&quota).create("s", config(1024 * 1024)).unwrap();
    let mut writer = stream.writer().unwrap();
    for _ in 0..1000 {
        append(&mut writer, 500).unwrap();
        assert!(quota.memory() <= 20_000 && quota.memory() == registry.memory());
    }
    drop(writer);
    registry.remove("s");
    drop(stream);
    assert_eq!((quota.memory(), registry.memory()), (0, 0));
}

#[test]
fn a_stream_with_reserved_memory_takes_all_of_it_at_once_and_never_moves() {
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("s", config(1024 * 1024).reserve(true)).unwrap();
    let memory = registry.memory();
    assert!(memory > 1024 * 1024);
    let mut writer = stream.writer().unwrap();
    for _ in 0..3000 {
        append(&mut writer, 1000).unwrap();
    }
    assert_eq!((registry.memory(), stream.stat().capacity), (memory, 1024 * 1024));
}

#[test]
fn a_writer_waits_for_a_block_reader_in_a_ring_that_grows() {
    let stream = Stream::new("s", config(4096)).unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let mut reader = Following::new(&stream, options, false);
    let mut writer = stream.writer().unwrap();
    let mut appended = 0;
    while append(&mut writer, 100).is_ok() {
        appended += 100;
    }
    assert_eq!(appended, 4000, "no room is left");
    assert!(reader.read(100));
    append(&mut writer, 100).unwrap();
    assert!(matches!(append(&mut writer, 100), Err(WriteError::Full)));
    while reader.read(1000) {}
    assert_eq!((reader.at, reader.lost), (4100, 0));
}

/// A waker that records that it was woken.
#[derive(Default)]
struct Notice(AtomicBool);

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Lets a writer wait for room in a ring buffer that cannot grow, then removes the limit and lets
/// another writer `act`. Returns whether that woke the first writer, and whether the first writer
/// could then append.
fn wakes(act: impl FnOnce(&mut Writer)) -> (bool, bool) {
    let registry = Registry::new(Limits { max_streams: 1, max_memory: 3000 });
    let stream = registry.create("s", config(4096)).unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let _reader = stream.reader(options).unwrap();
    let (mut waits, mut other) = (stream.writer().unwrap(), stream.writer().unwrap());
    while waits.try_append(b"x").is_ok() {}
    let notice = Arc::new(Notice::default());
    let waker = Arc::clone(&notice).into();
    let mut cx = Context::from_waker(&waker);
    let mut append = pin!(waits.append(b"x"));
    assert!(append.as_mut().poll(&mut cx).is_pending());
    registry.set_limits(Limits::UNLIMITED, 0);
    act(&mut other);
    (notice.0.load(Relaxed), append.as_mut().poll(&mut cx).is_ready())
}

#[test]
fn a_waiting_writer_goes_on_when_another_writers_append_has_moved_the_stream() {
    let moves = |writer: &mut Writer| writer.try_append(b"x").unwrap();
    assert_eq!(wakes(moves), (true, true));
}

#[test]
fn a_waiting_writer_goes_on_when_a_refused_append_has_moved_the_stream() {
    // The largest ring buffer has no room for this chunk beside its present contents.
    let moves =
        |writer: &mut Writer| assert_eq!(writer.try_append(vec![0; 4095]), Err(WriteError::Full));
    assert_eq!(wakes(moves), (true, true));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Read(usize, usize),
    Join(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![8 => 1..200u64, 3 => 200..3000u64, 1 => 3000..20_000u64];
    let step = prop_oneof![
        6 => sizes.prop_map(Step::Append),
        4 => (0..4usize, 1..5000usize).prop_map(|(who, most)| Step::Read(who, most)),
        1 => any::<bool>().prop_map(Step::Join),
    ];
    vec(step, 1..400)
}

proptest! {
    #[test]
    fn whatever_is_done_while_a_stream_grows_delivered_and_lost_are_all_and_every_byte_is_right(
        steps in steps(), memory in prop_oneof![Just(u64::MAX), 4_000..200_000u64]
    ) {
        let registry = Registry::new(Limits { max_streams: 1, max_memory: memory });
        let stream = registry.create("s", config(20_000)).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut readers = vec![
            Following::new(&stream, ReadOptions::default(), false),
            Following::new(&stream, ReadOptions::default(), true),
        ];
        for step in steps {
            match step {
                Step::Append(len) => {
                    let head = stream.extent().head;
                    let appended = writer.try_append(chunk(head, len));
                    if let Err(error) = appended {
                        assert!(memory < u64::MAX && matches!(error, WriteError::NoMemory { .. }), "{error:?}");
                        assert_eq!(stream.extent().head, head);
                    }
                }
                Step::Read(who, most) => {
                    let count = readers.len();
                    readers[who % count].read(most);
                }
                Step::Join(in_parts) => {
                    readers.push(Following::new(&stream, ReadOptions::default(), in_parts));
                }
            }
            assert!(registry.memory() <= memory);
        }
        let head = stream.extent().head;
        for mut reader in readers {
            while reader.read(3000) {}
            assert_eq!(reader.at, head);
            assert_eq!(reader.lost, reader.reader.lost_bytes());
            if memory == u64::MAX && head <= 20_000 {
                assert_eq!(reader.lost, 0);
            }
        }
    }
}
