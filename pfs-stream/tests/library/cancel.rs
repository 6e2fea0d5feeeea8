//! Tests of cancel safety: a future that is dropped at any of its awaits has done its work whole or
//! not at all.
//!
//! Every future here is polled once, and dropped if it is not ready; nothing may be lost or come
//! twice.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

use super::*;

/// Polls a future once, and drops it if it is not ready.
pub(super) async fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let polled = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    if polled.is_none() {
        GIVEN_UP.with(|count| count.set(count.get() + 1));
    }
    polled
}

/// Like `at_once`, but if the future was dropped, lets other tasks run.
async fn once<T>(work: impl Future<Output = T>) -> Option<T> {
    let polled = at_once(work).await;
    if polled.is_none() {
        yield_now().await;
    }
    polled
}

/// Repeats an operation with a new future each time until one completes at its first poll.
macro_rules! at_last {
    ($work:expr) => {
        loop {
            if let Some(done) = once($work).await {
                break done;
            }
        }
    };
}

thread_local! {
    /// Number of futures dropped in this test.
    static GIVEN_UP: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn was_given_up() -> bool {
    GIVEN_UP.replace(0) > 20
}

pub(super) fn chunks() -> Vec<Bytes> {
    let sizes = [1, 7, 100, 4000, 4096, 9000, 16_384, 3, 12_000];
    let chunk = |(n, size): (usize, &usize)| (0..*size).map(|at| (at * 31 + n * 7) as u8).collect();
    sizes.iter().cycle().take(90).enumerate().map(chunk).collect()
}

/// Both kinds of streams, each with a writer that has to wait for its reader again and again.
pub(super) fn pairs() -> [(Stream, Writer, Reader); 2] {
    both(16_384).map(|stream| {
        let (writer, reader) = (stream.writer().unwrap(), blocking(&stream));
        (stream, writer, reader)
    })
}

/// Appends all chunks, retrying each until it is in the stream.
pub(super) async fn write(mut writer: impl StreamWriter, stream: Stream) {
    let mut offset = 0;
    for chunk in chunks() {
        offset += chunk.len() as u64;
        while stream.bytes_written() < offset {
            if let Some(appended) = once(writer.append(chunk.clone())).await {
                appended.unwrap();
            }
        }
        assert_eq!(stream.bytes_written(), offset, "a chunk was appended twice");
    }
    at_last!(writer.flush()).unwrap();
    assert_eq!(writer.finish(Finish::Close).await.unwrap(), offset);
}

#[tokio::test]
async fn events_and_appends() {
    for (stream, writer, mut reader) in pairs() {
        let reading = async {
            let mut got = Vec::new();
            loop {
                match at_last!(reader.next()).unwrap() {
                    Event::Chunk(chunk) => got.push(chunk),
                    Event::End { .. } => return got,
                    other => panic!("{other:?}"),
                }
            }
        };
        let ((), got) = tokio::join!(write(writer, stream), reading);
        assert!(got == chunks());
        assert!(was_given_up());
    }
}

#[tokio::test]
async fn byte_streams() {
    for (stream, writer, reader) in pairs() {
        let mut bytes = reader.into_byte_stream();
        let reading = async {
            let mut got = Vec::new();
            while let Some(chunk) = at_last!(bytes.next()) {
                got.push(chunk.unwrap());
            }
            got
        };
        let ((), got) = tokio::join!(write(writer, stream), reading);
        assert!(got == chunks());
        assert!(was_given_up());
    }
}

#[tokio::test]
async fn async_reads_and_async_writes() {
    for (stream, writer, reader) in pairs() {
        let (mut bytes, mut writer) =
            (reader.into_byte_stream(), writer.into_async_write().closing());
        let (sent, all) = (chunks(), chunks().concat());
        let writing = async {
            for chunk in &sent {
                assert_eq!(at_last!(writer.write(chunk)).unwrap(), chunk.len());
            }
            at_last!(writer.flush()).unwrap();
            assert_eq!(stream.bytes_written(), all.len() as u64);
            at_last!(writer.shutdown()).unwrap();
        };
        let reading = async {
            let (mut got, mut buffer) = (Vec::new(), [0; 1000]);
            loop {
                match at_last!(bytes.read(&mut buffer)).unwrap() {
                    0 => return got,
                    len => got.extend_from_slice(&buffer[..len]),
                }
            }
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == all);
        assert_eq!(stream.stat().chunks, sent.len() as u64);
        assert!(was_given_up());
    }
}

#[tokio::test]
async fn typed_streams() {
    for (stream, writer, reader) in pairs() {
        let mut writer = TypedWriter::<Vec<u32>>::json(writer);
        let mut reader = TypedReader::<Vec<u32>>::json(reader);
        let value = |n: u32| vec![n; n as usize * 40];
        let writing = async {
            let mut chunks = 0;
            for n in 0..60 {
                chunks += 1;
                while stream.stat().chunks < chunks {
                    if let Some(sent) = once(writer.append(&value(n))).await {
                        sent.unwrap();
                    }
                }
                assert_eq!(stream.stat().chunks, chunks, "a value was sent twice");
            }
            writer.finish(Finish::Close).await.unwrap();
        };
        let reading = async {
            let mut n = 0;
            while let Some(got) = at_last!(reader.next()) {
                assert_eq!(got.unwrap(), value(n));
                n += 1;
            }
            n
        };
        assert_eq!(tokio::join!(writing, reading), ((), 60));
        assert!(was_given_up());
    }
}

#[tokio::test]
async fn watchers() {
    for stream in both(8192) {
        let mut events = stream.events();
        let coming_and_going = async {
            for _ in 0..50 {
                drop(reader(&stream));
                yield_now().await;
            }
            stream.remove();
        };
        let watching = async {
            let mut seen = Vec::new();
            while let Some(event) = at_last!(events.next()) {
                seen.push(event);
            }
            seen
        };
        let ((), seen) = tokio::join!(coming_and_going, watching);
        let numbers = seen.iter().filter_map(|event| match event {
            StreamEvent::Subscribed { reader, .. } => Some(*reader),
            _ => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
        assert_eq!((seen.len(), seen.last()), (201, Some(&StreamEvent::Removed)));
        assert!(was_given_up());
    }
}
