//! Ring following: readers of other processes follow their stream from ring to ring while it grows.

use std::{sync::mpsc, thread};

use pfs_stream::{
    shm::{FollowError, Handout, ShmReader},
    *,
};

use super::{byte_at, follow, open};

const SIZE: u64 = 1024 * 1024;

/// An empty stream, in its smallest ring.
fn stream() -> Stream {
    Stream::new("s", StreamConfig::default().buffer_size(SIZE)).unwrap()
}

fn hand_out(stream: &Stream, options: ReadOptions) -> Handout {
    stream.reader(options).unwrap().hand_out(true).unwrap()
}

fn append(writer: &mut Writer, len: u64) {
    let from = writer.offset();
    let chunk: Vec<u8> = (from..from + len).map(byte_at).collect();
    writer.append_blocking(chunk).unwrap();
}

/// Reads everything that is there now, in every ring. Returns the number of bytes.
fn read_all(reader: &mut ShmReader, handout: &Handout) -> u64 {
    let from = reader.position();
    loop {
        let mut bytes = Vec::new();
        let at = reader.position();
        match reader.try_read(&mut bytes, 5000).unwrap() {
            Some(Read::Data { .. }) => {
                assert!(bytes.iter().zip(at..).all(|(byte, offset)| *byte == byte_at(offset)));
            }
            None if reader.has_to_follow() => {
                let next = handout.follow().unwrap();
                reader.follow(next.file().try_clone_to_owned().unwrap(), next.layout()).unwrap();
            }
            None => return reader.position() - from,
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_small_stream_is_shared_in_a_page_and_a_reader_follows_it_to_full_size_without_loss() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 100);
    let handout = hand_out(&stream, ReadOptions::default());
    let size = || rustix::fs::fstat(handout.ring().unwrap()).unwrap().st_size;
    assert_eq!(size(), 4096);
    let mut reader = open(&handout);
    assert_eq!(read_all(&mut reader, &handout), 100);
    while writer.offset() < SIZE {
        append(&mut writer, 700);
        assert_eq!(read_all(&mut reader, &handout), 700);
    }
    let stat = stream.stat();
    assert_eq!((stat.capacity, handout.lost_bytes()), (SIZE, 0));
    assert!((5..8).contains(&stat.moves), "{} moves", stat.moves);
    writer.finish(Finish::Close);
    assert_eq!(reader.try_read(&mut Vec::new(), 1), Ok(Some(Read::End(End::Closed))));
}

#[test]
fn a_reader_that_sleeps_on_a_ring_is_woken_when_the_stream_leaves_it() {
    for _ in 0..30 {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let handout = hand_out(&stream, ReadOptions::default());
        thread::scope(|scope| {
            let reader = scope.spawn(|| follow(&handout));
            for _ in 0..400 {
                append(&mut writer, 900);
            }
            let head = writer.offset();
            writer.finish(Finish::Close);
            assert_eq!(reader.join().unwrap(), (head, 0));
        });
    }
}

#[test]
fn a_reader_that_stood_still_while_the_stream_moved_reports_exactly_what_it_missed() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    while writer.offset() < 3 * SIZE {
        append(&mut writer, 1000);
    }
    let head = writer.offset();
    writer.finish(Finish::Close);
    let (delivered, lost) = follow(&handout);
    assert_eq!((delivered + lost, lost), (head, handout.lost_bytes()));
    assert!(lost > 0 && delivered >= SIZE - 2000, "{delivered} delivered and {lost} lost");
}

#[test]
fn writers_wait_for_a_block_reader_in_any_ring_and_it_loses_nothing() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout =
        hand_out(&stream, ReadOptions { policy: SlowPolicy::Block, ..Default::default() });
    let (send, taken) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            while writer.offset() < 3 * SIZE {
                append(&mut writer, 1000);
            }
            send.send(writer.offset()).unwrap();
            writer.finish(Finish::Close);
        });
        assert_eq!(follow(&handout), (taken.recv().unwrap(), 0));
    });
}

#[test]
fn a_reader_is_given_the_next_ring_once_and_none_of_a_removed_stream() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    assert!(matches!(handout.follow(), Err(FollowError::NotMoved)));
    append(&mut writer, 5000);
    handout.follow().unwrap();
    assert!(matches!(handout.follow(), Err(FollowError::NotMoved)));
    append(&mut writer, 100_000);
    stream.remove();
    assert!(matches!(handout.follow(), Err(FollowError::Removed)));
}

#[test]
fn a_ring_that_was_left_is_counted_until_its_reader_has_followed() {
    let registry = Registry::new(Limits::default());
    let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    let mut reader = open(&handout);
    while stream.stat().capacity < SIZE {
        append(&mut writer, 1000);
    }
    let before = registry.memory();
    read_all(&mut reader, &handout);
    assert_eq!(before - registry.memory(), 4096, "only the stats page was returned");
    drop((reader, handout));
    registry.remove("s");
    drop((stream, writer));
    assert_eq!(registry.memory(), 0);
}

#[test]
fn a_stream_occupies_one_descriptor_however_often_it_moves_and_moves_even_if_none_is_left() {
    let registry = Registry::with_descriptors(Limits::default(), 1);
    let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let other = registry.create("other", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    assert!(!other.is_shared());
    assert!(other.reader(ReadOptions::default()).unwrap().hand_out(true).is_err());
    let mut reader = open(&handout);
    while writer.offset() < SIZE {
        append(&mut writer, 1000);
        read_all(&mut reader, &handout);
    }
    assert_eq!((stream.stat().capacity, handout.lost_bytes()), (SIZE, 0));
    assert!(stream.is_shared() && !other.is_shared());
    drop((reader, handout, writer));
    registry.remove("s");
    assert!(other.is_shared());
}

#[test]
fn a_stream_read_by_a_process_that_cannot_follow_has_full_size_and_stays() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    append(&mut writer, 100);
    let follows = hand_out(&stream, ReadOptions::default());
    let stays = stream.reader(ReadOptions::default()).unwrap().hand_out(false).unwrap();
    assert_eq!(stays.start().layout, RingLayout { capacity: SIZE, entries: None });
    let mut reader = open(&follows);
    assert_eq!(read_all(&mut reader, &follows), 100);
    let moves = stream.stat().moves;
    while writer.offset() < 3 * SIZE {
        append(&mut writer, 1000);
        read_all(&mut reader, &follows);
    }
    assert_eq!(stream.stat().moves, moves);
    writer.finish(Finish::Close);
    let (delivered, lost) = follow(&stays);
    assert_eq!(delivered + lost, stream.stat().head);
}

#[test]
fn a_reader_that_cannot_map_the_next_ring_is_taken_back_where_it_is() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    let mut reader = open(&handout);
    append(&mut writer, 100);
    assert_eq!(read_all(&mut reader, &handout), 100);
    append(&mut writer, 10_000);
    assert!(reader.try_read(&mut Vec::new(), 1).unwrap().is_none() && reader.has_to_follow());
    handout.follow().unwrap();
    let mut reader = handout.take_back();
    assert_eq!(reader.position(), 100);
    let mut bytes = Vec::new();
    assert_eq!(reader.try_read(&mut bytes, 10), Ok(Some(Read::Data { chunks: 1, bytes: 10_000 })));
    assert!(bytes.iter().zip(100..).all(|(byte, offset)| *byte == byte_at(offset)));
}

/// The memory of a file that the system has allocated, in KiB.
fn allocated(file: std::os::fd::BorrowedFd<'_>) -> u64 {
    rustix::fs::fstat(file).unwrap().st_blocks as u64 / 2
}

#[test]
fn a_shared_ring_has_all_its_pages_so_that_no_access_can_find_one_missing() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let handout = hand_out(&stream, ReadOptions::default());
    assert_eq!((allocated(handout.ring().unwrap()), allocated(handout.page().unwrap())), (4, 4));
    while writer.offset() < SIZE {
        append(&mut writer, 1000);
        if let Ok(next) = handout.follow() {
            let size = rustix::fs::fstat(next.file()).unwrap().st_size as u64;
            assert!(size > next.layout().capacity && allocated(next.file()) >= size / 1024);
        }
    }
    assert_eq!(stream.stat().capacity, SIZE);
}

#[test]
fn a_large_ring_has_its_pages_only_if_its_stream_reserves_them() {
    for (reserve, least, most) in [(true, 80 * 1024, u64::MAX), (false, 0, 1024)] {
        let config = StreamConfig::default().buffer_size(80 * 1024 * 1024).reserve(reserve);
        let stream = Stream::new("s", config).unwrap();
        let handout = stream.reader(ReadOptions::default()).unwrap().hand_out(false).unwrap();
        let allocated = allocated(handout.ring().unwrap());
        assert!((least..=most).contains(&allocated), "{allocated} KiB");
    }
}
