//! Tests against faults that are common in broadcast libraries.

use std::{
    io::Write,
    sync::{Arc, mpsc},
    thread,
};

use super::*;

#[test]
fn closing_ends_every_reader_and_every_later_one() {
    for stream in both(1 << 16) {
        let (ended, ends) = mpsc::channel();
        for _ in 0..3 {
            let (reader, ended) = (reader(&stream), ended.clone());
            thread::spawn(move || ended.send(reader.into_iter().count()).unwrap());
        }
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"one").unwrap();
        writer.finish(Finish::Close);
        for _ in 0..3 {
            assert_eq!(ends.recv().unwrap(), 1, "each reader gets one chunk and then the end");
        }
        assert_eq!(reader(&stream).into_iter().count(), 1, "a late reader gets the chunk too");
        assert!(matches!(
            reader(&stream).into_event_iter().last(),
            Some(Ok(Event::End { offset: 3, .. }))
        ));
        assert_eq!(stream.writer().unwrap_err(), AttachError::Closed);
        assert!(!stream.is_active());
    }
}

/// Bytes whose owners can be counted.
struct Counted {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn a_reader_that_never_reads_makes_the_stream_hold_no_more_than_its_ring() {
    let stream = Stream::local("s", config(1 << 16, 1 << 16)).unwrap();
    let (mut idle, mut kept, alive) = (reader(&stream), reader(&stream), Arc::new(()));
    let mut writer = stream.writer().unwrap();
    let mut append = |count| {
        for _ in 0..count {
            let chunk = bytes::Bytes::from_owner(Counted {
                bytes: vec![1; 8192],
                _alive: Arc::clone(&alive),
            });
            pollster::block_on(writer.append(chunk)).unwrap();
        }
    };
    append(1000);
    assert_eq!(Arc::strong_count(&alive) - 1, 8, "64 KiB hold eight such chunks");
    // A program that keeps one chunk keeps only that chunk alive: the rest of the batch went with
    // the reader.
    assert!(matches!(kept.try_next(), Ok(Some(Event::Gap { chunks: 992, .. }))));
    let Ok(Some(Event::Chunk(chunk))) = kept.try_next() else { panic!() };
    drop(kept);
    append(100);
    assert_eq!(Arc::strong_count(&alive) - 1, 9);
    drop(chunk);
    assert_eq!(Arc::strong_count(&alive) - 1, 8);
    assert!(matches!(idle.try_next(), Ok(Some(Event::Gap { from: 0, chunks: 1092, .. }))));
    // Small chunks evict large ones as well.
    for _ in 0..100 {
        writer.try_append(&[0; 1000]).unwrap();
    }
    assert_eq!(Arc::strong_count(&alive) - 1, 0);
}

#[test]
fn loss_counters_of_a_reader_never_decrease() {
    for stream in both(1 << 16) {
        let (mut reader, mut writer) = (reader(&stream), stream.writer().unwrap());
        let mut lost = (0, 0);
        for round in 1..=5_u64 {
            for _ in 0..50 {
                writer.try_append(&[0; 8192]).unwrap();
            }
            while reader.try_next().unwrap().is_some() {
                let now = (reader.lost_bytes(), reader.lost_chunks());
                assert!(now >= lost, "{now:?} after {lost:?}");
                lost = now;
            }
            assert_eq!(lost.0 + (8 << 13) * round, stream.bytes_written());
        }
        assert_eq!(lost, (42 * 8192 * 5, 42 * 5));
        drop(reader);
        assert_eq!(
            stream.stat().lost_bytes,
            42 * 8192 * 5,
            "the stream keeps the loss of a reader that left"
        );
    }
}

#[test]
fn removal_and_eviction_do_not_look_like_the_end() {
    for stream in both(1 << 16) {
        let options = ReadOptions { policy: SlowPolicy::Disconnect, ..Default::default() };
        let mut slow = stream.reader(options).unwrap();
        let mut other = reader(&stream).into_byte_iter();
        let mut writer = stream.writer().unwrap();
        assert!(slow.try_next().unwrap().is_none(), "the reader has reached the live edge");
        for _ in 0..20 {
            writer.try_append(&[0; 8192]).unwrap();
        }
        for _ in 0..2 {
            assert!(
                matches!(slow.try_next(), Err(ReadError::TooSlow { .. })),
                "the error is final"
            );
        }
        let mut slow = slow.into_byte_iter();
        let error = slow.next().unwrap().unwrap_err();
        assert!(matches!(ReadError::from_io_error(&error), Some(ReadError::TooSlow { .. })));
        assert!(slow.next().is_none());

        stream.remove();
        let error = other.next().unwrap().unwrap_err();
        assert!(matches!(ReadError::from_io_error(&error), Some(ReadError::Removed)));
        assert!(LostData::from_io_error(&error).is_none());
        assert!(other.next().is_none());
        let error = writer.write(b"x").unwrap_err();
        assert!(matches!(WriteError::from_io_error(&error), Some(WriteError::Removed)));
    }
}

#[test]
fn a_dropped_reader_is_uncounted_at_once_whatever_it_was_doing() {
    for stream in both(1 << 16) {
        let mut events = stream.events();
        let readers: Vec<_> = (0..3).map(|_| reader(&stream)).collect();
        assert_eq!(stream.readers(), 3);
        let [first, second, third]: [Reader; 3] = readers.try_into().unwrap();
        drop(first);
        assert_eq!(stream.readers(), 2);
        let waiting = second.into_byte_stream();
        let mut waiting = Box::pin(async move { { waiting }.next().await });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(waiting);
        assert_eq!(stream.readers(), 1);
        let panics = thread::spawn(move || {
            let _reader = third;
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
        assert_eq!((stream.readers(), stream.stat().readers.len()), (0, 0));
        let mut writer = stream.writer().unwrap();
        writer.try_append(b"x").unwrap();
        assert_eq!(writer.readers(), 0, "the writer counts the readers too");
        let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert_eq!(
            told.first().map(|event| matches!(event, StreamEvent::Subscribed { .. })),
            Some(true)
        );
        assert_eq!(
            (told.get(1), told.last()),
            (Some(&StreamEvent::FirstReader), Some(&StreamEvent::NoReaders))
        );
        assert_eq!(told.len(), 8);
    }
}

#[test]
fn a_watcher_misses_nothing_and_one_that_sleeps_is_told_how_much_it_missed() {
    let stream = Stream::new("s", config(4096, 4096)).unwrap();
    let (mut awake, mut asleep) = (stream.events(), stream.events());
    let (mut seen, mut appended) = (0, 0);
    let mut writer = stream.writer().unwrap();
    for _ in 0..1000 {
        drop(reader(&stream));
        appended += writer.try_append(b"never waits for a watcher").map(|_| 1).unwrap();
        seen += std::iter::from_fn(|| awake.try_next()).count();
    }
    writer.finish(Finish::Close);
    stream.remove();
    assert_eq!((seen, appended), (4000, 1000), "each reader causes four events");
    assert!(matches!(awake.try_next(), Some(StreamEvent::Closed { .. })));
    assert_eq!((awake.try_next(), awake.try_next()), (Some(StreamEvent::Removed), None));
    let told: Vec<_> = std::iter::from_fn(|| asleep.try_next()).collect();
    let missed: u64 = told
        .iter()
        .map(|event| if let StreamEvent::Missed { count } = event { *count } else { 0 })
        .sum();
    let kept =
        told.iter().filter(|event| !matches!(event, StreamEvent::Missed { .. })).count() as u64;
    assert_eq!(kept + missed, 4002, "every event was told or counted");
    assert!(missed > 0 && kept < 1000, "few events are kept");
    assert_eq!(told.last(), Some(&StreamEvent::Removed));
}

#[test]
fn a_slow_reader_gets_the_right_bytes_or_a_gap_and_never_later_bytes() {
    for stream in both(1 << 16) {
        let mut writer = stream.writer().unwrap();
        let reader = reader(&stream);
        let writing = thread::spawn(move || {
            for n in 0..20_000_u32 {
                // Every byte of a chunk holds its number. Sizes lie on both sides of the limit from
                // which chunks are held by reference.
                let size = if n % 3 == 0 { 9000 } else { 300 };
                writer.write_all(&vec![(n % 251) as u8; size]).unwrap();
            }
            writer.finish(Finish::Close);
        });
        let mut next = 0_u64;
        for event in reader.into_event_iter() {
            match event.unwrap() {
                Event::Chunk(chunk) => {
                    let size = if next.is_multiple_of(3) { 9000 } else { 300 };
                    assert_eq!(chunk.len(), size, "chunk {next}");
                    assert!(
                        chunk.iter().all(|byte| u64::from(*byte) == next % 251),
                        "chunk {next} is another"
                    );
                    next += 1;
                    if next.is_multiple_of(7) {
                        thread::yield_now();
                    }
                }
                Event::Gap { chunks, .. } => next += chunks,
                Event::End { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next, 20_000);
        writing.join().unwrap();
    }
}
