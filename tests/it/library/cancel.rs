//! Cancel safety: an operation that is cancelled at any of its awaits has taken effect completely
//! or not at all.
//!
//! The daemon is stopped now and then, so that both sides must cancel several times, whatever the
//! machine does.

use std::time::Duration;

use bytes::Bytes;
use harness::{Daemon, Transport};
use pfs_client::{
    Chunks, Event, Finish, ReadOptions, Reader, SlowPolicy, StreamEvent, TypedReader, TypedWriter,
    WriteOptions, Writer,
};
use tokio::time::sleep;

use super::{
    block_on, client, daemon,
    giving_up::{Side, Standstill, Still, chunks},
    path,
};

/// Capacity of the stream, in bytes. It is so small that writers have to wait for their readers
/// again and again.
const BUFFER: u64 = 256 * 1024;

/// Starts a daemon with buffers of this size, a writer over this transport, and a reader that
/// loses nothing.
async fn pair(transport: Transport, buffer: u64) -> (Daemon, Writer, Reader) {
    let daemon = daemon(buffer);
    let client = client(&daemon, transport).await;
    let writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let reader = client.reader(&path(), options).await.unwrap();
    (daemon, writer, reader)
}

#[tokio::test]
async fn a_reader_and_a_writer_that_cancel_all_the_time_lose_and_double_nothing() {
    for transport in Transport::ALL {
        let (daemon, mut writer, mut reader) = pair(transport, BUFFER).await;
        let (writes, reads, sent) = (Side::default(), Side::default(), chunks());
        let writing = async {
            let mut standstill = Standstill::new(&daemon, &writes, &reads);
            for (n, chunk) in (1..).zip(&sent) {
                // During a large chunk, so that the small chunks behind it must wait for
                // their turn.
                if n % 10 == 8 {
                    standstill.begin();
                }
                loop {
                    let taken_over = writer.appended() == n;
                    if standstill.is_over(taken_over && n % 10 == 2) {
                        standstill.end(async || writes.once(writer.flush()).await.is_none()).await;
                    }
                    if taken_over {
                        break;
                    }
                    if let Some(appended) = writes.once(writer.append(chunk)).await {
                        appended.unwrap();
                    }
                    assert!(writer.appended() <= n, "{transport:?}: a chunk was taken over twice");
                }
            }
            drop(standstill);
            while writes.once(writer.flush()).await.is_none() {}
            assert_eq!((writer.acked(), writer.readers()), (sent.len() as u64, 1));
            writer.finish(Finish::Close).await.unwrap()
        };
        let reading = async {
            let mut got = Vec::new();
            loop {
                let Some(event) = reads.once(reader.next()).await else { continue };
                match event.unwrap() {
                    Event::Chunk(chunk) => got.push(chunk),
                    Event::End { offset, .. } => return (got, offset),
                    Event::Attached { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let (written, (got, read)) = tokio::join!(writing, reading);
        assert!(got == sent, "{transport:?}: the chunks are other ones");
        assert_eq!(written, read);
    }
}

#[tokio::test]
async fn values_that_are_cancelled_all_the_time_arrive_once_each() {
    for transport in Transport::ALL {
        let (daemon, writer, reader) = pair(transport, 4096).await;
        let mut writer = TypedWriter::<(u64, String), _>::json(writer);
        let mut reader = TypedReader::<(u64, String), _>::json(reader);
        let (writes, reads) = (Side::default(), Side::default());
        // More than the shared memory holds.
        let values: Vec<_> = (1..=400).map(|n| (n, "x".repeat(3000))).collect();
        let writing = async {
            let mut standstill = Standstill::new(&daemon, &writes, &reads);
            for value in &values {
                if value.0 % 200 == 1 {
                    standstill.begin();
                }
                loop {
                    let taken_over = writer.get_ref().appended() == value.0;
                    if standstill.is_over(taken_over && value.0 % 200 == 0) {
                        standstill.end(async || writes.once(writer.flush()).await.is_none()).await;
                    }
                    if taken_over {
                        break;
                    }
                    if let Some(sent) = writes.once(writer.append(value)).await {
                        sent.unwrap();
                    }
                    assert!(
                        writer.get_ref().appended() <= value.0,
                        "{transport:?}: a value was taken over twice"
                    );
                }
            }
            drop(standstill);
            writer.finish(Finish::Close).await.unwrap();
        };
        let reading = async {
            let mut got = Vec::new();
            loop {
                match reads.once(reader.next()).await {
                    None => {}
                    Some(Some(value)) => got.push(value.unwrap()),
                    Some(None) => return got,
                }
            }
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == values, "{transport:?}: {} values, or other ones", got.len());
    }
}

#[tokio::test]
async fn batches_that_are_cancelled_all_the_time_have_every_chunk_once() {
    for transport in Transport::ALL {
        let (daemon, mut writer, mut reader) = pair(transport, BUFFER).await;
        let (writes, reads, sent) = (Side::default(), Side::default(), chunks());
        let writing = async {
            let mut standstill = Standstill::new(&daemon, &writes, &reads);
            for (n, chunk) in (1..).zip(&sent) {
                if n % 10 == 8 {
                    standstill.begin();
                }
                loop {
                    let taken_over = writer.appended() == n;
                    if standstill.is_over(taken_over && n % 10 == 2) {
                        standstill.end(async || writes.once(writer.flush()).await.is_none()).await;
                    }
                    if taken_over {
                        break;
                    }
                    if let Some(pushed) = writes.once(writer.push(chunk)).await {
                        pushed.unwrap();
                    }
                    assert!(writer.appended() <= n, "{transport:?}: a chunk was taken over twice");
                }
            }
            drop(standstill);
            while writes.once(writer.send()).await.is_none() {}
            writer.finish(Finish::Close).await.unwrap();
        };
        let reading = async {
            let (mut batch, mut got) = (Chunks::new(), Vec::new());
            loop {
                match reads.once(reader.next_batch(&mut batch)).await.transpose().unwrap() {
                    None | Some(Some(Event::Attached { .. })) => {}
                    Some(None) => got.extend(batch.iter().map(Bytes::copy_from_slice)),
                    Some(Some(Event::End { .. })) => return got,
                    Some(Some(other)) => panic!("{other:?}"),
                }
            }
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == sent, "{transport:?}: the chunks are other ones");
    }
}

harness::per_transport! {
    a_watcher_that_gives_up_all_the_time_misses_no_event,
}

fn a_watcher_that_gives_up_all_the_time_misses_no_event(transport: Transport) {
    block_on(watcher_misses_no_event(transport));
}

async fn watcher_misses_no_event(transport: Transport) {
    let daemon = transport.daemon();
    let client = client(&daemon, transport).await;
    client.create(&path(), &pfs_client::CreateOptions::default()).await.unwrap();
    let mut events = client.events(&path()).await.unwrap();
    let watches = Side::default();
    let coming_and_going = async {
        for n in 0..20 {
            client.reader(&path(), ReadOptions::default()).await.unwrap();
            if n % 5 == 0 {
                let _still = Still::new(&daemon);
                watches.gives_up().await;
            }
            sleep(Duration::from_millis(1)).await;
        }
        while !client.stat(&path()).await.unwrap().readers.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        client.remove(&path()).await.unwrap();
    };
    let watching = async {
        let mut seen = Vec::new();
        loop {
            let Some(event) = watches.once(events.next()).await else { continue };
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
    assert_eq!(numbers(&seen, false), all);
    assert_eq!(seen.last(), Some(&StreamEvent::Removed));
}
