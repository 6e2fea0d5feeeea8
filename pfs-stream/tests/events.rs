//! Tests of stream events, as watchers get them.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use pfs_stream::{Events, Finish, Peer, ReadOptions, Stream, StreamConfig, StreamEvent};

fn stream() -> Stream {
    let config =
        StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    Stream::new("s", config).unwrap()
}

fn told(events: &mut Events) -> Vec<StreamEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

fn us() -> Peer {
    Peer { pid: Some(7), uid: Some(8) }
}

#[test]
fn events_report_readers_that_attach_and_detach_with_number_and_count() {
    let stream = stream();
    let before = stream.reader_of(ReadOptions::default(), us()).unwrap();
    let mut events = stream.events();
    let second = stream.reader_of(ReadOptions::default(), us()).unwrap();
    drop(before);
    drop(second);
    let gone = |reader, readers| StreamEvent::Unsubscribed {
        reader,
        peer: us(),
        readers,
        lost_bytes: 0,
        lost_chunks: 0,
    };
    assert_eq!(
        told(&mut events),
        [
            StreamEvent::Subscribed { reader: 2, peer: us(), readers: 2 },
            gone(1, 1),
            gone(2, 0),
            StreamEvent::NoReaders
        ]
    );
    let _third = stream.reader_of(ReadOptions::default(), us()).unwrap();
    assert_eq!(
        told(&mut events),
        [StreamEvent::Subscribed { reader: 3, peer: us(), readers: 1 }, StreamEvent::FirstReader]
    );
}

#[test]
fn a_gap_event_comes_when_the_reader_gets_the_gap_and_the_sum_when_it_detaches() {
    let stream = stream();
    let mut events = stream.events();
    let mut reader = stream.reader_of(ReadOptions::default(), us()).unwrap();
    let mut writer = stream.writer_of(us()).unwrap();
    for _ in 0..8 {
        writer.try_append(&[7; 1024]).unwrap();
    }
    assert_eq!(told(&mut events).len(), 2, "the reader has not seen the event yet");
    reader.try_read(&mut Vec::new(), 10).unwrap();
    assert_eq!(told(&mut events), [StreamEvent::Gap { reader: 1, from: 0, to: 4096, chunks: 4 }]);
    drop(reader);
    let gone = told(&mut events);
    assert!(
        matches!(gone[0], StreamEvent::Unsubscribed { lost_bytes: 4096, lost_chunks: 4, .. }),
        "{gone:?}"
    );
}

#[test]
fn a_close_is_reported_once_and_the_removal_last() {
    let stream = stream();
    let mut events = stream.events();
    let mut writer = stream.writer_of(us()).unwrap();
    writer.try_append(b"12345").unwrap();
    writer.finish(Finish::Close);
    stream.close();
    stream.remove();
    stream.remove();
    assert_eq!(events.next_blocking(), Some(StreamEvent::Closed { offset: 5, failed: false }));
    assert_eq!(events.next_blocking(), Some(StreamEvent::Removed));
    assert_eq!((events.next_blocking(), events.try_next()), (None, None));
    assert_eq!(
        told(&mut stream.events()),
        [StreamEvent::Removed],
        "a late watcher is told that events are lost"
    );
}

#[test]
fn an_idle_watcher_has_a_bounded_queue_and_is_told_how_many_events_it_missed() {
    let stream = stream();
    let mut events = stream.events();
    for _ in 0..1000 {
        drop(stream.reader_of(ReadOptions::default(), us()).unwrap());
    }
    let first = told(&mut events);
    let Some(StreamEvent::Missed { count }) = first.last() else { panic!("{:?}", first.last()) };
    // Each reader causes four events.
    assert_eq!(first.len() - 1 + usize::try_from(*count).unwrap(), 4000);
    assert!(first.len() < 1000, "{} events are kept", first.len());
    drop(stream.reader_of(ReadOptions::default(), us()).unwrap());
    assert_eq!(told(&mut events).len(), 4, "the watcher continues");

    for _ in 0..1000 {
        drop(stream.reader_of(ReadOptions::default(), us()).unwrap());
    }
    stream.remove();
    assert_eq!(
        told(&mut events).last(),
        Some(&StreamEvent::Removed),
        "this event is never dropped"
    );
}

#[test]
fn a_watcher_that_blocks_a_thread_is_woken() {
    let stream = stream();
    let mut events = stream.events();
    let watching =
        std::thread::spawn(move || std::iter::from_fn(|| events.next_blocking()).count());
    for _ in 0..10 {
        drop(stream.reader_of(ReadOptions::default(), us()).unwrap());
    }
    stream.remove();
    assert_eq!(watching.join().unwrap(), 41);
}
