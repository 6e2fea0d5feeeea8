//! Shared-memory readers: what readers of other processes are promised, with both sides in one
//! process.
#![cfg(all(target_os = "linux", not(loom)))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not recognised by clippy

#[cfg(not(miri))]
mod direct;
mod following;

use std::{
    thread,
    time::{Duration, Instant},
};

use pfs_stream::{
    shm::{Handout, ShmReader},
    *,
};

fn stream() -> Stream {
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    Stream::new("s", config).unwrap()
}

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16) ^ (offset >> 24)) as u8
}

/// Hands out a reader to a process that cannot follow the stream to other rings.
fn hand_out(stream: &Stream, options: ReadOptions) -> Handout {
    stream.reader(options).unwrap().hand_out(false).unwrap()
}

/// Opens the reader like the other process.
fn open(handout: &Handout) -> ShmReader {
    let ring = handout.ring().unwrap().try_clone_to_owned().unwrap();
    let page = handout.page().unwrap().try_clone_to_owned().unwrap();
    ShmReader::open(ring, page, &handout.start()).unwrap()
}

/// Reads until the end. Returns delivered and lost bytes.
fn follow(handout: &Handout) -> (u64, u64) {
    let mut reader = open(handout);
    let mut position = reader.position();
    let (mut delivered, mut lost) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let notifier = reader.notifier();
        let count = notifier.count();
        match reader.try_read(&mut bytes, 2000).unwrap() {
            None if reader.has_to_follow() => {
                let next = handout.follow().unwrap();
                reader.follow(next.file().try_clone_to_owned().unwrap(), next.layout()).unwrap();
                continue;
            }
            None => {
                notifier.sleep(count, None);
                continue;
            }
            Some(Read::Data { .. }) => {
                let wrong =
                    bytes.iter().zip(position..).find(|(byte, offset)| **byte != byte_at(*offset));
                assert_eq!(wrong, None, "a wrong byte for its offset");
                position += bytes.len() as u64;
                delivered += bytes.len() as u64;
            }
            Some(Read::Gap { from, to, .. }) => {
                assert_eq!(from, position);
                position = to;
                lost += to - from;
            }
            Some(Read::End(_)) => return (delivered, lost),
        }
        if reader.room_is_wanted() {
            handout.made_room();
        }
    }
}

fn append(writer: &mut Writer, chunks: u64) -> u64 {
    let mut head = writer.offset();
    for number in 0..chunks {
        let len = 1 + (head ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1500;
        let chunk: Vec<u8> = (head..head + len).map(byte_at).collect();
        writer.append_blocking(&chunk).unwrap();
        head = writer.offset();
    }
    head
}

#[test]
fn losses_stay_counted_when_a_reader_moves_to_another_process_and_comes_back() {
    let stream = stream();
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    for _ in 0..5 {
        writer.try_append(&[0; 1000]).unwrap();
    }
    let gap = Read::Gap { from: 0, to: 1000, chunks: 1 };
    assert_eq!(reader.try_read(&mut Vec::new(), 1), Ok(Some(gap)));
    let handout = reader.hand_out(false).unwrap();
    assert_eq!(
        (handout.lost_bytes(), handout.lost_chunks(), stream.stat().lost_bytes),
        (1000, 1, 1000)
    );
    let reader = handout.take_back();
    assert_eq!(
        (reader.lost_bytes(), reader.lost_chunks(), stream.stat().lost_bytes),
        (1000, 1, 1000)
    );
}

/// Runs for `PFS_TEST_SECONDS`, and at least 100 times.
#[test]
fn an_shm_reader_that_is_lapped_sees_no_torn_byte_and_counts_what_it_lost() {
    let seconds = std::env::var("PFS_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handouts: Vec<_> = (0..3).map(|_| hand_out(&stream, ReadOptions::default())).collect();
    thread::scope(|scope| {
        let readers: Vec<_> =
            handouts.iter().map(|handout| scope.spawn(|| follow(handout))).collect();
        let mut head = 0;
        for round in 0.. {
            if round >= 100 && Instant::now() >= until {
                break;
            }
            head = append(&mut writer, 1000);
        }
        writer.finish(Finish::Close);
        for (reader, handout) in readers.into_iter().zip(&handouts) {
            let (delivered, lost) = reader.join().unwrap();
            assert_eq!((delivered + lost, lost), (head, handout.lost_bytes()));
            assert_eq!(handout.position(), head);
        }
    });
}

#[test]
fn an_shm_block_reader_loses_nothing_and_notifies_when_it_makes_room() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let handout = hand_out(&stream, options);
    thread::scope(|scope| {
        let reader = scope.spawn(|| follow(&handout));
        let head = append(&mut writer, 20_000);
        writer.finish(Finish::Close);
        assert_eq!(reader.join().unwrap(), (head, 0));
    });
}

#[test]
fn an_shm_reader_is_counted_and_waited_for_as_long_as_it_is_attached() {
    let stream = stream();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let handout = hand_out(&stream, options);
    assert_eq!(stream.readers(), 1);
    let mut writer = stream.writer().unwrap();
    writer.try_append(&[0; 4096]).unwrap();
    assert_eq!(writer.try_append(b"x"), Err(WriteError::Full));
    drop(handout);
    assert_eq!(stream.readers(), 0);
    writer.try_append(b"x").unwrap();
}

#[test]
fn a_reader_that_cannot_be_mapped_is_taken_back_and_loses_nothing() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    writer.try_append(b"chunk").unwrap();
    let mut reader = handout.take_back();
    let mut bytes = Vec::new();
    assert_eq!(reader.try_read(&mut bytes, 10), Ok(Some(Read::Data { chunks: 1, bytes: 5 })));
    let stat = stream.stat();
    assert_eq!((stat.readers.len(), stat.readers[0].position), (1, 5));
}

#[test]
fn garbage_in_a_stats_page_affects_only_the_stats_of_its_reader() {
    let stream = stream();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let liar = hand_out(&stream, options);
    let honest = hand_out(&stream, ReadOptions::default());
    let mut writer = stream.writer().unwrap();
    rustix::io::pwrite(liar.page().unwrap(), &[0xFF; 4096], 0).unwrap();
    let head = append(&mut writer, 1000);
    let stat = stream.stat();
    assert_eq!((stat.head, stat.readers[0].lag), (head, 0));
    assert!(stat.readers[0].lost_bytes <= head);
    writer.finish(Finish::Close);
    let (delivered, lost) = follow(&honest);
    assert_eq!(delivered + lost, head);
}

#[test]
fn claims_of_a_stats_page_are_clamped_to_what_is_possible() {
    // All numbers are larger than possible in the first case, and smaller in the second. The stream
    // has 17 bytes in 4 chunks, 7 bytes of them after the start.
    for (claim, position, lost_bytes, lost_chunks) in [(0xFF, 17, 7, 4), (0, 10, 0, 0)] {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        for chunk in [&b"four"[..], b"chunks", b"are", b"here"] {
            writer.try_append(chunk).unwrap();
        }
        let mut events = stream.events();
        let liar =
            hand_out(&stream, ReadOptions { start: Start::Offset(10), ..Default::default() });
        rustix::io::pwrite(liar.page().unwrap(), &[claim; 4096], 0).unwrap();
        assert_eq!(liar.position(), position);
        assert_eq!((liar.lost_bytes(), liar.lost_chunks()), (lost_bytes, lost_chunks));
        let stat = stream.stat();
        let reader = &stat.readers[0];
        assert_eq!((reader.position, reader.lag), (position, 17 - position));
        assert_eq!((reader.lost_bytes, reader.lost_chunks), (lost_bytes, lost_chunks));
        assert_eq!(stat.lost_bytes, lost_bytes);
        drop(liar);
        assert_eq!(stream.stat().lost_bytes, lost_bytes);
        let told = std::iter::from_fn(|| events.try_next()).find_map(|event| match event {
            StreamEvent::Unsubscribed { lost_bytes, lost_chunks, .. } => {
                Some((lost_bytes, lost_chunks))
            }
            _ => None,
        });
        assert_eq!(told, Some((lost_bytes, lost_chunks)));
    }
}

#[test]
fn memory_that_could_shrink_is_refused() {
    let stream = stream();
    let handout = hand_out(&stream, ReadOptions::default());
    let page = || handout.page().unwrap().try_clone_to_owned().unwrap();
    let size = rustix::fs::fstat(handout.ring().unwrap()).unwrap().st_size as u64;
    let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, size).unwrap();
    assert!(ShmReader::open(unsealed, page(), &handout.start()).is_err());
    let layout = RingLayout { capacity: 8192, ..handout.start().layout };
    let other = ShmStart { layout, ..handout.start() };
    let ring = handout.ring().unwrap().try_clone_to_owned().unwrap();
    assert!(
        ShmReader::open(ring, page(), &other).is_err(),
        "the file has another size than the layout"
    );
}

#[test]
fn a_removed_stream_is_charged_to_its_quota_until_no_other_process_maps_it() {
    let registry = Registry::new(Limits::default());
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    let quota = Quota::new(Limits { max_streams: 1, ..Limits::UNLIMITED });
    let create = |name| registry.charged_to(&quota).create(name, config.clone());
    let stream = create("s").unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    registry.remove("s");
    assert!(registry.is_empty() && quota.memory() > 0);
    assert!(matches!(create("t"), Err(CreateError::QuotaOfStreams { used: 1, limit: 1 })));
    drop(handout);
    assert_eq!((quota.streams(), quota.memory()), (0, 0));
    create("t").unwrap();
    assert_eq!(quota.streams(), 1);
}

#[test]
fn while_replaced_streams_are_mapped_their_quota_is_exceeded_by_one_at_most() {
    let registry = Registry::new(Limits::default());
    let quota = Quota::new(Limits { max_streams: 2, ..Limits::UNLIMITED });
    let replace =
        |name| registry.charged_to(&quota).replace_with(name, StreamConfig::default(), |_| ());
    let mapped = ["a", "b"].map(|name| hand_out(&replace(name).unwrap(), ReadOptions::default()));
    replace("a").unwrap();
    assert!(matches!(replace("b"), Err(CreateError::QuotaOfStreams { used: 3, limit: 2 })));
    drop(mapped);
    assert_eq!(quota.streams(), 2);
    replace("b").unwrap();
    assert_eq!(quota.streams(), 2);
}

#[test]
fn the_memory_of_a_removed_stream_is_given_back_before_readers_notice_the_removal() {
    let registry = Registry::new(Limits { max_streams: 1, max_memory: 1024 * 1024 });
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    let stream = registry.create("s", config.clone()).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut here = stream.reader(ReadOptions::default()).unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    let mut there = open(&handout);
    append(&mut writer, 1000);
    registry.remove("s");

    assert!(registry.memory() > 0, "another process may still map the ring");
    assert_eq!(here.try_read(&mut Vec::new(), 2000), Err(ReadError::Removed));
    assert_eq!(there.try_read(&mut Vec::new(), 2000), Err(ReadError::Removed));
    assert!(matches!(writer.try_append(b"x"), Err(WriteError::Removed)));
    drop(handout);
    assert_eq!(registry.memory(), 0, "no other process maps the ring");
    drop((stream, writer, here));
    registry.create("s", config).unwrap();
}
