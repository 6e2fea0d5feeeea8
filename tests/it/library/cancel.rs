//! Whatever is given up at any of its awaits has done its work whole or not at all.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use harness::{Daemon, Way};
use pfs_client::{
    Chunks, Event, ReadOptions, SlowPolicy, StreamEvent, TypedReader, TypedWriter, WriteOptions,
};
use tokio::time::sleep;

use super::{client, path};

/// What the stream holds at most: writers have to wait for their readers again and again.
const BUFFER: u64 = 256 << 10;

/// Polls something once, and gives it up if it is not done.
pub(super) async fn once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let polled = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    if polled.is_none() {
        GIVEN_UP.with(|count| count.set(count.get() + 1));
        sleep(Duration::from_micros(200)).await;
    }
    polled
}

thread_local! {
    /// How often something was given up in this test.
    static GIVEN_UP: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Chunks of all sizes: those that are staged, those that are not, and one that takes several frames.
pub(super) fn chunks() -> Vec<Bytes> {
    let sizes = [1, 7, 100, 4_000, 9_000, 70_000, 130_000, 200_000, 3, 256 << 10];
    let chunk = |(n, size): (usize, &usize)| (0..*size).map(|at| (at * 31 + n * 7) as u8).collect();
    sizes.iter().cycle().take(60).enumerate().map(chunk).collect()
}

#[tokio::test]
async fn a_reader_and_a_writer_that_give_up_all_the_time_lose_nothing_and_have_nothing_twice() {
    for way in Way::BOTH {
        let daemon = Daemon::with_buffers(BUFFER, BUFFER);
        let client = client(&daemon, way).await;
        let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
        let mut reader = client.reader(&path(), options).await.unwrap();
        let sent = chunks();
        let writing = async {
            for (n, chunk) in (1..).zip(&sent) {
                while writer.appended() < n {
                    if let Some(appended) = once(writer.append(chunk)).await {
                        appended.unwrap();
                    }
                }
                assert_eq!(writer.appended(), n, "a chunk was taken over twice");
            }
            while once(writer.flush()).await.is_none() {}
            assert_eq!((writer.acked(), writer.readers()), (sent.len() as u64, 1));
            writer.finish(true).await.unwrap()
        };
        let reading = async {
            let mut got = Vec::new();
            loop {
                let Some(event) = once(reader.next()).await else { continue };
                match event.unwrap() {
                    Event::Chunk(chunk) => got.push(chunk),
                    Event::End { offset, .. } => return (got, offset),
                    Event::Attached { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let (written, (got, read)) = tokio::join!(writing, reading);
        assert!(got == sent, "{way:?}: the chunks are other ones");
        assert_eq!(written, read);
    }
    // How often is the scheduler's affair; a reader that comes before the first chunk waits at least once.
    assert!(GIVEN_UP.get() > 0, "it never had to wait, so this has tested nothing");
}

#[tokio::test]
async fn values_that_are_given_up_all_the_time_arrive_once_each() {
    for way in Way::BOTH {
        let daemon = Daemon::with_buffers(4096, 4096);
        let client = client(&daemon, way).await;
        let writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let mut writer = TypedWriter::<(u64, String), _>::new(writer);
        let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
        let mut reader = TypedReader::<(u64, String), _>::new(client.reader(&path(), options).await.unwrap());
        let values: Vec<_> = (1..=300).map(|n| (n, "x".repeat(1000))).collect();
        let writing = async {
            for value in &values {
                while writer.get_ref().appended() < value.0 {
                    if let Some(sent) = once(writer.send(value)).await {
                        sent.unwrap();
                    }
                }
            }
            writer.close().await.unwrap();
        };
        let reading = async {
            let mut got = Vec::new();
            loop {
                match once(reader.recv()).await {
                    None => {}
                    Some(Some(value)) => got.push(value.unwrap()),
                    Some(None) => return got,
                }
            }
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == values, "{way:?}: {} values, or other ones", got.len());
    }
}

#[tokio::test]
async fn batches_that_are_given_up_all_the_time_have_every_chunk_once() {
    for way in Way::BOTH {
        let daemon = Daemon::with_buffers(BUFFER, BUFFER);
        let client = client(&daemon, way).await;
        let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
        let mut reader = client.reader(&path(), options).await.unwrap();
        let sent = chunks();
        let writing = async {
            for (n, chunk) in (1..).zip(&sent) {
                while writer.appended() < n {
                    if let Some(pushed) = once(writer.push(chunk)).await {
                        pushed.unwrap();
                    }
                }
            }
            while once(writer.send()).await.is_none() {}
            writer.finish(true).await.unwrap();
        };
        let reading = async {
            let (mut batch, mut got) = (Chunks::new(), Vec::new());
            loop {
                match once(reader.next_batch(&mut batch)).await.transpose().unwrap() {
                    None | Some(Some(Event::Attached { .. })) => {}
                    Some(None) => got.extend(batch.iter().map(Bytes::copy_from_slice)),
                    Some(Some(Event::End { .. })) => return got,
                    Some(Some(other)) => panic!("{other:?}"),
                }
            }
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == sent, "{way:?}: the chunks are other ones");
    }
}

#[tokio::test]
async fn a_watcher_that_gives_up_all_the_time_misses_no_event() {
    let daemon = Daemon::start();
    let client = client(&daemon, Way::of_this_run()).await;
    client.create(&path(), &pfs_client::CreateOptions::default()).await.unwrap();
    let mut events = client.events(&path()).await.unwrap();
    let coming_and_going = async {
        for _ in 0..20 {
            client.reader(&path(), ReadOptions::default()).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        client.remove(&path()).await.unwrap();
    };
    let watching = async {
        let mut seen = Vec::new();
        loop {
            let Some(event) = once(events.next()).await else { continue };
            match event.unwrap() {
                Some(event) => seen.push(event),
                None => return seen,
            }
        }
    };
    let ((), seen) = tokio::join!(coming_and_going, watching);
    let numbers = |seen: &[StreamEvent], coming: bool| {
        let number = |event: &StreamEvent| match event {
            StreamEvent::Subscribed { reader, .. } if coming => Some(*reader),
            StreamEvent::Unsubscribed { reader, .. } if !coming => Some(*reader),
            _ => None,
        };
        let mut numbers: Vec<u64> = seen.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    let all: Vec<u64> = (1..=20).collect();
    assert_eq!(numbers(&seen, true), all);
    // The last one may have left after the removal.
    assert!(all.starts_with(&numbers(&seen, false)) && numbers(&seen, false).len() >= 19, "{seen:?}");
    assert_eq!(seen.last(), Some(&StreamEvent::Removed));
}
