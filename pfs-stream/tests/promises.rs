//! Tests of the engine's promises, in one process and almost without waiting.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use pfs_stream::*;

const PEER: Peer = Peer { pid: None, uid: None };

fn stream(ring: u64, channel: u64) -> Stream {
    let config =
        StreamConfig { ring_buffer_size: ring, channel_buffer_size: channel, ..Default::default() };
    Stream::new("s", config).unwrap()
}

fn options(start: Start, policy: SlowPolicy, until: Until) -> ReadOptions {
    ReadOptions { start, policy, until, ..Default::default() }
}

/// Everything that a reader gets without waiting.
#[derive(Debug, Default, PartialEq)]
struct Got {
    bytes: Vec<u8>,
    gaps: Vec<(u64, u64, u64)>,
    end: Option<Result<End, ReadError>>,
}

fn drain(reader: &mut Reader) -> Got {
    let mut got = Got::default();
    loop {
        match reader.try_read(&mut got.bytes, 1000) {
            Ok(None) => return got,
            Ok(Some(Read::Data { .. })) => {}
            Ok(Some(Read::Gap { from, to, chunks })) => got.gaps.push((from, to, chunks)),
            Ok(Some(Read::End(end))) => {
                got.end = Some(Ok(end));
                return got;
            }
            Err(error) => {
                got.end = Some(Err(error));
                return got;
            }
        }
    }
}

fn bytes_at(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|offset| (offset % 251) as u8).collect()
}

/// Appends chunks of `len` bytes, each byte a function of its offset.
fn append(writer: &mut Writer, chunks: u64, len: u64) {
    for _ in 0..chunks {
        let head = writer.offset();
        writer.try_append(bytes_at(head..head + len)).expect("room");
    }
}

#[test]
fn a_late_reader_gets_history_within_the_ring_buffer_size_and_then_live_data() {
    let stream = stream(1000, 8192);
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 50, 300);
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    assert_eq!(reader.start(), 50 * 300 - 900);
    append(&mut writer, 2, 300);
    assert_eq!(drain(&mut reader).bytes, bytes_at(14100..15600));
    append(&mut writer, 1, 300);
    assert_eq!(drain(&mut reader).bytes, bytes_at(15600..15900));
}

#[test]
fn each_start_option_starts_where_it_says() {
    let stream = stream(8192, 8192);
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 10, 100);
    let start = |start| {
        let reader = stream.reader(options(start, SlowPolicy::Drop, Until::Closed));
        let mut reader = reader.unwrap();
        (reader.start(), drain(&mut reader).bytes.len())
    };
    assert_eq!(start(Start::Oldest), (0, 1000));
    assert_eq!(start(Start::New), (1000, 0));
    assert_eq!(
        start(Start::Tail(250)),
        (750, 250),
        "the start is exact to the byte, inside a chunk too"
    );
    assert_eq!(start(Start::Tail(200)), (800, 200));
    assert_eq!(start(Start::Tail(1)), (999, 1));
    assert_eq!(start(Start::Tail(0)), (1000, 0));
    assert_eq!(start(Start::Tail(u64::MAX)), (0, 1000));
    assert_eq!(
        start(Start::Offset(150)),
        (150, 850),
        "the start is exact to the byte, inside a chunk too"
    );
    assert_eq!(start(Start::Offset(1000)), (1000, 0));
    assert_eq!(start(Start::Since(Duration::from_secs(3600))), (0, 1000));
    // Append times have the resolution of the system's clock tick, which is at most ten
    // milliseconds.
    std::thread::sleep(Duration::from_millis(21));
    assert_eq!(start(Start::Since(Duration::from_millis(10))), (1000, 0));
    let past = stream.reader(options(Start::Offset(1001), SlowPolicy::Drop, Until::Closed));
    assert_eq!(past.unwrap_err(), AttachError::PastHead { offset: 1001, head: 1000 });
}

#[test]
fn a_start_below_tail_begins_with_a_gap_for_every_policy() {
    let stream = stream(4096, 4096);
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 100, 100);
    for policy in [SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect] {
        let mut reader = stream.reader(options(Start::Offset(10), policy, Until::Closed)).unwrap();
        let got = drain(&mut reader);
        assert_eq!(got.gaps, [(10, 6000, 0)]);
        assert_eq!(got.bytes, bytes_at(6000..10_000));
        assert_eq!(reader.lost_bytes(), 5990);
    }
}

#[test]
fn a_lapped_drop_reader_gets_a_gap_on_chunk_boundaries_and_goes_on() {
    let stream = stream(4096, 4096);
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 1, 100);
    assert_eq!(drain(&mut reader).bytes, bytes_at(0..100));
    append(&mut writer, 99, 100);
    let got = drain(&mut reader);
    assert_eq!(got.gaps, [(100, 6000, 59)]);
    assert_eq!(got.bytes, bytes_at(6000..10_000));
    let stat = stream.stat();
    assert_eq!(
        (stat.readers[0].lost_bytes, stat.readers[0].lost_chunks, stat.lost_bytes),
        (5900, 59, 5900)
    );
}

#[test]
fn a_live_reader_that_lags_beyond_the_channel_buffer_loses_its_oldest_chunks() {
    let stream = stream(40_960, 1000);
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 20, 100);
    let mut behind = stream.reader(ReadOptions::default()).unwrap();
    let mut live = stream.reader(options(Start::New, SlowPolicy::Drop, Until::Closed)).unwrap();
    append(&mut writer, 20, 100);
    assert_eq!(drain(&mut live).gaps, [(2000, 3000, 10)]);
    let got = drain(&mut behind);
    assert_eq!(
        (got.gaps.len(), got.bytes.len()),
        (0, 4000),
        "a reader that was never live may use the whole ring"
    );
}

#[test]
fn a_slow_disconnect_reader_gets_only_the_error() {
    let stream = stream(4096, 1000);
    let reader = stream.reader(options(Start::New, SlowPolicy::Disconnect, Until::Closed));
    let mut reader = reader.unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 10, 100);
    assert_eq!(drain(&mut reader).bytes.len(), 1000);
    append(&mut writer, 11, 100);
    let slow = Got { end: Some(Err(ReadError::TooSlow { lag: Some(1100) })), ..Got::default() };
    assert_eq!(drain(&mut reader), slow);
    assert_eq!(drain(&mut reader), slow, "the error is final");
}

#[test]
fn a_block_reader_makes_writers_wait_and_loses_nothing() {
    let stream = stream(4096, 4096);
    let reader = stream.reader(options(Start::Oldest, SlowPolicy::Block, Until::Closed));
    let mut reader = reader.unwrap();
    let mut drop_reader = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 40, 100);
    assert_eq!(writer.try_append(&[0; 100]), Err(WriteError::Full));
    assert_eq!(drain(&mut reader).bytes, bytes_at(0..4000));
    append(&mut writer, 30, 100);
    assert_eq!(drain(&mut reader).bytes, bytes_at(4000..7000));
    drop(reader);
    append(&mut writer, 100, 100);
    assert_eq!(drain(&mut drop_reader).gaps.len(), 1);
}

#[test]
fn a_block_reader_that_detaches_releases_the_waiting_writer() {
    let stream = stream(4096, 4096);
    let reader = stream.reader(options(Start::Oldest, SlowPolicy::Block, Until::Closed));
    let reader = reader.unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 1, 4096);
    let waiting = std::thread::spawn(move || writer.append_blocking(&[0; 10]));
    while !stream.stat().readers[0].blocking {
        std::thread::yield_now();
    }
    assert!(stream.stat().writers[0].waiting);
    drop(reader);
    assert_eq!(waiting.join().unwrap(), Ok(()));
    assert_eq!(stream.bytes_written(), 4106);
}

#[test]
fn one_byte_chunks_take_no_more_memory_and_their_gaps_are_exact() {
    let stream = stream(65_536, 65_536);
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 1_000_000, 1);
    let stat = stream.stat();
    let got = drain(&mut reader);
    assert_eq!(got.gaps, [(0, stat.tail, stat.tail)]);
    assert_eq!(got.bytes, bytes_at(stat.tail..1_000_000));
    assert!(stat.chunks_held >= 1023 && stat.memory < 2 * 65_536);
}

#[test]
fn close_ends_every_reader_at_head_and_every_later_one() {
    let stream = stream(4096, 4096);
    let mut early = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 3, 10);
    stream.close();
    assert_eq!(writer.try_append(b"x"), Err(WriteError::Closed));
    assert_eq!(stream.writer().unwrap_err(), AttachError::Closed);
    let mut late = stream.reader(ReadOptions::default()).unwrap();
    for reader in [&mut early, &mut late] {
        let got = drain(reader);
        assert_eq!((got.bytes, got.end), (bytes_at(0..30), Some(Ok(End::Closed))));
    }
}

#[test]
fn removal_is_an_error_for_readers_and_writers_and_not_an_end() {
    let registry = Registry::new(Limits::default());
    let stream = registry.create("s", StreamConfig::default()).unwrap();
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 1, 10);
    assert!(registry.remove("s") && !registry.remove("s"));
    assert_eq!(drain(&mut reader).end, Some(Err(ReadError::Removed)));
    assert_eq!(writer.try_append(b"x"), Err(WriteError::Removed));
    assert_eq!(stream.reader(ReadOptions::default()).unwrap_err(), AttachError::Removed);
    assert!(registry.get("s").is_none());
}

#[test]
fn readers_distinguish_the_end_of_the_last_writer_from_its_death() {
    let until = options(Start::Oldest, SlowPolicy::Drop, Until::WritersGone);
    let stream = stream(4096, 4096);
    let mut waiting = stream.reader(until).unwrap();
    assert_eq!(drain(&mut waiting).end, None, "no writer has come yet");
    let (first, second) = (stream.writer().unwrap(), stream.writer().unwrap());
    first.finish(Finish::KeepOpen);
    assert_eq!(drain(&mut waiting).end, None, "one writer is still attached");
    second.finish(Finish::KeepOpen);
    assert_eq!(drain(&mut waiting).end, Some(Ok(End::WritersGone)));
    drop(stream.writer().unwrap());
    assert_eq!(drain(&mut stream.reader(until).unwrap()).end, Some(Ok(End::WriterDied)));
    stream.writer().unwrap().finish(Finish::KeepOpen);
    assert_eq!(drain(&mut stream.reader(until).unwrap()).end, Some(Ok(End::WritersGone)));
    let stat = stream.stat();
    assert_eq!((stat.writers_finished, stat.writers_died), (3, 1));
}

#[test]
fn a_caught_up_reader_ends_exactly_at_the_head_of_its_attach() {
    let stream = stream(4096, 4096);
    let mut writer = stream.writer().unwrap();
    let until = options(Start::Oldest, SlowPolicy::Drop, Until::CaughtUp);
    assert_eq!(drain(&mut stream.reader(until).unwrap()).end, Some(Ok(End::CaughtUp)));
    append(&mut writer, 3, 10);
    let mut reader = stream.reader(until).unwrap();
    append(&mut writer, 3, 10);
    let got = drain(&mut reader);
    assert_eq!((got.bytes, got.end), (bytes_at(0..30), Some(Ok(End::CaughtUp))));
}

#[test]
fn a_chunk_that_not_every_reader_could_get_is_refused() {
    let stream = stream(8000, 5000);
    let mut writer = stream.writer().unwrap();
    assert_eq!(writer.try_append(&[0; 5001]), Err(WriteError::TooLarge { size: 5001, max: 5000 }));
    writer.try_append(&[0; 5000]).unwrap();
}

#[test]
fn waiting_readers_are_attached_before_the_first_byte_and_leave_nothing_behind() {
    let registry = Registry::new(Limits::default());
    let new = options(Start::New, SlowPolicy::Drop, Until::Closed);
    let waits = registry.reader_when_created("a", new, PEER);
    let leaves = registry.reader_when_created("b", new, PEER);
    assert!(waits.is_waiting() && leaves.is_waiting() && registry.is_empty());
    drop(leaves);
    let stream = registry.open_or_create("a", StreamConfig::default()).unwrap();
    assert_eq!(stream.readers(), 1);
    append(&mut stream.writer().unwrap(), 1, 10);
    let mut reader = pollster::block_on(waits).unwrap();
    assert_eq!(drain(&mut reader).bytes, bytes_at(0..10));
    assert_eq!(registry.create("b", StreamConfig::default()).unwrap().readers(), 0);
}

#[test]
fn limits_refuse_a_stream_and_disturb_no_other() {
    let config = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        reserve: true,
        ..Default::default()
    };
    let one = Stream::new("s", config.clone()).unwrap().stat().memory;
    let registry = Registry::new(Limits { max_streams: 2, max_memory: one * 3 });
    let held = registry.create("a", config.clone()).unwrap();
    assert!(matches!(registry.create("a", config.clone()), Err(CreateError::Exists)));
    registry.create("b", config.clone()).unwrap();
    assert!(matches!(
        registry.create("c", config.clone()),
        Err(CreateError::TooManyStreams { limit: 2 })
    ));
    registry.remove("b");
    let large = StreamConfig { ring_buffer_size: 2 * one, ..config.clone() };
    assert!(matches!(registry.create("c", large.clone()), Err(CreateError::TooMuchMemory { .. })));
    registry.remove("a");
    if cfg!(any(miri, not(target_os = "linux"))) {
        drop(held);
    }
    assert_eq!(registry.memory(), 0, "the stream is removed although handles are left");
    registry.create("c", large).unwrap();
    for size in [0, (1 << 40) + 1, u64::MAX] {
        let bad = StreamConfig { ring_buffer_size: size, ..config.clone() };
        assert!(matches!(registry.create("d", bad), Err(CreateError::BadSize { .. })));
    }
}

#[test]
fn changed_limits_apply_to_the_next_stream_and_remove_nothing() {
    let config = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        reserve: true,
        ..Default::default()
    };
    let one = Stream::new("s", config.clone()).unwrap().stat().memory;
    let registry = Registry::new(Limits { max_streams: 2, max_memory: one * 2 });
    for name in ["a", "b"] {
        registry.create(name, config.clone()).unwrap();
    }
    let lower = Limits { max_streams: 1, max_memory: one };
    registry.set_limits(lower, 0);
    assert_eq!((registry.limits(), registry.len(), registry.memory()), (lower, 2, one * 2));
    assert!(matches!(
        registry.create("c", config.clone()),
        Err(CreateError::TooManyStreams { limit: 1 })
    ));

    registry.set_limits(Limits { max_streams: 3, ..lower }, 0);
    assert!(matches!(registry.create("c", config.clone()), Err(CreateError::TooMuchMemory { .. })));
    registry.set_limits(Limits { max_streams: 3, max_memory: one * 3 }, 0);
    assert!(!registry.create("c", config).unwrap().is_shared(), "no descriptor is left");
}

#[test]
fn a_paged_listing_has_the_streams_at_and_below_a_path_in_order() {
    let registry = Registry::with_descriptors(Limits::UNLIMITED, 0);
    // Names that sort next to the slash, and names that share a prefix with the path without being
    // below it.
    let names = [
        "/a", "/a-b", "/a.", "/a/", "/a/b", "/a/b-", "/a/b/c", "/a/b0", "/a/c", "/a0", "/aa", "/b",
        "/",
    ];
    for name in names {
        registry.create(name, StreamConfig::default().buffer_size(1)).unwrap();
    }
    for path in ["", "/", "/a", "/a/b", "/a/b/c", "/a/", "/aa", "/c"] {
        for page in 1..=names.len() {
            let (mut after, mut listed) = (String::new(), Vec::new());
            loop {
                let streams = registry.list_at(path, &after, page);
                assert!(streams.len() <= page);
                let Some(last) = streams.last() else { break };
                last.name().clone_into(&mut after);
                listed.extend(streams.iter().map(|stream| stream.name().to_owned()));
            }
            let mut expected = names.map(str::to_owned).to_vec();
            expected.retain(|name| {
                name.strip_prefix(path)
                    .is_some_and(|below| below.is_empty() || below.starts_with('/'))
            });
            expected.sort();
            assert_eq!(listed, expected, "{path}, {page} per page");
        }
        assert!(registry.list_at(path, "/zzz", 1).is_empty());
    }
}

#[test]
fn a_stream_recreated_under_its_name_has_another_identity() {
    let registry = Registry::new(Limits::default());
    let first = registry.create("s", StreamConfig::default()).unwrap();
    assert_eq!(registry.get("s").unwrap().identity(), first.identity());
    assert_eq!(first.reader(ReadOptions::default()).unwrap().identity(), first.identity());
    assert!(registry.remove("s"));
    let second = registry.create("s", StreamConfig::default()).unwrap();
    assert_ne!(second.identity(), first.identity());
    assert_eq!(second.identity().daemon(), first.identity().daemon(), "one registry created both");
    // No time passes between the two, and still their identities differ.
    let apart = [(); 2]
        .map(|()| Registry::new(Limits::default()).create("s", StreamConfig::default()).unwrap());
    assert_ne!(apart[0].identity(), apart[1].identity());
}

#[test]
fn removing_by_handle_spares_another_stream_of_the_same_name() {
    let registry = Registry::new(Limits::default());
    let first = registry.create("s", StreamConfig::default()).unwrap();
    assert!(registry.remove_stream(&first) && first.extent().removed);
    let second = registry.create("s", StreamConfig::default()).unwrap();
    assert!(!registry.remove_stream(&first), "the first stream is already removed");
    assert!(second.is_active() && registry.remove_stream(&second) && registry.is_empty());
}

#[test]
fn a_reader_knows_the_extent_of_its_stream_at_attach() {
    let stream = stream(1000, 1000);
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 100, 100);
    let reader = || stream.reader(ReadOptions::default()).unwrap();
    let (open, held) = (reader(), stream.extent());
    assert!(
        open.extent_at_attach() == held && held.tail > 0 && held.head == 10_000 && !held.closed
    );
    append(&mut writer, 100, 100);
    writer.finish(Finish::Close);
    assert_eq!(open.extent_at_attach(), held, "later appends do not change the extent at attach");
    assert_eq!(reader().extent_at_attach(), stream.extent());
    assert!(reader().extent_at_attach().closed);
}

#[test]
fn a_stream_expires_when_nothing_was_appended_for_its_time_to_live() {
    let registry = Registry::new(Limits::default());
    let ttl = Duration::from_secs(60);
    let stream =
        registry.create("s", StreamConfig { ttl: Some(ttl), ..Default::default() }).unwrap();
    registry.create("stays", StreamConfig::default()).unwrap();
    append(&mut stream.writer().unwrap(), 1, 1);
    let left = registry.next_expiry().unwrap();
    assert!(left > ttl / 2 && left <= ttl, "{left:?}");
    assert!(registry.expire(Duration::ZERO).is_empty());
    assert_eq!(registry.expire(ttl), ["s"]);
    assert_eq!((registry.next_expiry(), registry.len()), (None, 1));
}

#[test]
fn a_writer_can_wait_for_its_readers() {
    let stream = stream(4096, 4096);
    let mut reach = Box::pin(stream.readers_reach(2));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _one = stream.reader(ReadOptions::default()).unwrap();
    assert!(reach.as_mut().poll(&mut cx).is_pending());
    let _two = stream.reader(ReadOptions::default()).unwrap();
    assert!(reach.as_mut().poll(&mut cx).is_ready());
    let forever = stream.readers_reach(100);
    stream.close();
    pollster::block_on(forever);
}

#[test]
fn a_writer_with_nothing_to_append_can_wait_for_the_end_of_its_stream() {
    for (end, expected) in
        [(Stream::close as fn(&Stream), WriteError::Closed), (Stream::remove, WriteError::Removed)]
    {
        let stream = stream(4096, 4096);
        let mut writer = stream.writer().unwrap();
        let other = stream.writer().unwrap();
        let mut failure = pin!(writer.failure());
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for woken in [&first, &first, &second, &second] {
            let waker = Waker::from(Arc::clone(woken));
            assert!(failure.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            append(&mut writer, 1, 10);
        }
        other.finish(Finish::KeepOpen);
        assert_eq!((first.times(), second.times()), (0, 0), "the stream still takes appends");
        end(&stream);
        assert_eq!((first.times(), second.times()), (0, 1), "the last poller is woken");
        assert_eq!(pollster::block_on(failure), expected);
        assert_eq!(writer.try_append(b"x"), Err(expected.clone()));
        assert_eq!(pollster::block_on(writer.failure()), expected);
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_replaced_stream_is_removed_and_its_name_is_never_unused() {
    let registry = Registry::new(Limits { max_streams: 1, ..Limits::default() });
    let config = |size| StreamConfig {
        ring_buffer_size: size,
        channel_buffer_size: size,
        ..Default::default()
    };
    for old in ["open", "closed", "none"] {
        if old != "none" {
            let stream = registry.create("s", config(1000)).unwrap();
            stream.writer().unwrap().try_append(b"old").unwrap();
            if old == "closed" {
                stream.close();
            }
        }
        let before = registry.get("s");
        let mut reader =
            before.as_ref().map(|stream| stream.reader(ReadOptions::default()).unwrap());
        let waiting = registry.reader_when_created("other", ReadOptions::default(), PEER);
        let stream = registry
            .replace_with("s", config(2000), |stream| {
                stream.writer().unwrap().try_append(b"first").unwrap();
            })
            .unwrap();
        if let Some(reader) = &mut reader {
            assert_eq!(reader.try_read(&mut Vec::new(), 100), Err(ReadError::Removed), "{old}");
        }
        assert_eq!(registry.get("s").unwrap().config().ring_buffer_size, 2000);
        assert_eq!((registry.len(), stream.bytes_written()), (1, 5));
        assert!(waiting.is_waiting());
        assert!(registry.remove("s"));
    }
}

#[test]
fn a_refused_replacement_leaves_the_old_stream_unchanged() {
    let size = |bytes| StreamConfig {
        ring_buffer_size: bytes,
        channel_buffer_size: bytes,
        reserve: true,
        ..Default::default()
    };
    let registry = Registry::new(Limits { max_streams: 9, max_memory: 3 * 1024 * 1024 });
    let old = registry.create("s", size(1024 * 1024)).unwrap();
    old.writer().unwrap().try_append(b"old").unwrap();
    let refused = registry
        .replace_with("s", size(64 * 1024 * 1024), |_| panic!("a refused stream was created"));
    assert!(matches!(refused, Err(CreateError::TooMuchMemory { .. })));
    assert!(matches!(
        registry.replace_with("s", size(0), |_| ()),
        Err(CreateError::BadSize { .. })
    ));
    // The old stream has another handle, so that both streams would count.
    assert!(matches!(
        registry.replace_with("s", size(2 * 1024 * 1024), |_| ()),
        Err(CreateError::TooMuchMemory { .. })
    ));
    assert!(old.is_active() && registry.get("s").unwrap().bytes_written() == 3);
    // Without that handle, the new stream can take the old stream's memory.
    drop(old);
    let new = registry.replace_with("s", size(2 * 1024 * 1024), |_| ()).unwrap();
    assert_eq!((registry.len(), registry.memory()), (1, new.stat().memory));
}
