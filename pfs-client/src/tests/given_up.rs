//! Cancel safety: readers and writers whose future is dropped at every pending poll, with a pending
//! poll every few bytes.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

use bytes::{Bytes, BytesMut};
use pfs_proto::{MAX_PAYLOAD, Reply, Request};
use tokio::task::yield_now;

use super::daemon::{pipe, promptly, reader, writer};
use crate::{End, Event};

/// Polls `work` once, and drops it if it is pending. Then lets other tasks run.
async fn once<T>(given_up: &Cell<usize>, work: impl Future<Output = T>) -> Option<T> {
    let polled = {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    };
    if polled.is_none() {
        given_up.set(given_up.get() + 1);
        yield_now().await;
    }
    polled
}

#[tokio::test]
async fn a_reader_cancelled_before_every_byte_gets_every_event_once() {
    let data = |bytes: &'static str| Reply::Data(bytes.into());
    let part = |bytes: &'static str| Reply::DataPart(bytes.into());
    let replies = [
        data("a chunk"),
        part("a chunk in "),
        part("three "),
        data("parts"),
        Reply::Gap { from: 29, to: 40, chunks: 2 },
        data("the last one"),
        Reply::End { reason: End::Closed, offset: 52 },
    ];
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    let (reader, mut daemon) =
        reader(64, Reply::Reading { start: 0, head: 0, content_type: None }).await;
    let (mut reader, given_up, mut told) = (reader.unwrap(), Cell::new(0), Vec::new());
    for byte in &bytes {
        while let Some(event) = once(&given_up, reader.next()).await {
            told.push(event.unwrap());
        }
        daemon.send_bytes(&[*byte]).await;
    }
    assert_eq!(given_up.get(), bytes.len());
    told.push(reader.next().await.unwrap());
    let expected = [
        Event::Attached { start: 0, head: 0, content_type: None },
        Event::Chunk("a chunk".into()),
        Event::Chunk("a chunk in three parts".into()),
        Event::Gap { from: 29, to: 40, chunks: 2 },
        Event::Chunk("the last one".into()),
        Event::End { reason: End::Closed, offset: 52 },
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_writer_cancelled_before_every_few_bytes_sends_each_chunk_whole_and_once() {
    const ROOM: usize = 1000;
    let sizes = [1, 3000, MAX_PAYLOAD + 1, 100_000, 7, MAX_PAYLOAD, 50];
    let chunk = |(n, size): (usize, &usize)| {
        (0..*size).map(|at| (at * 31 + n * 7) as u8).collect::<Bytes>()
    };
    let sent: Vec<Bytes> = sizes.iter().enumerate().map(chunk).collect();
    let (mut writer, mut daemon) = writer(pipe(ROOM), 4 * 1024 * 1024).await;
    let given_up = Cell::new(0);
    let writing = async {
        for (n, chunk) in (1..).zip(&sent) {
            while writer.appended() < n {
                if let Some(appended) = once(&given_up, writer.append(chunk)).await {
                    appended.unwrap();
                }
            }
            assert_eq!(writer.appended(), n, "a chunk was appended twice");
        }
        while once(&given_up, writer.flush()).await.is_none() {}
        assert_eq!(writer.acked(), sent.len() as u64);
    };
    let hearing = async {
        let (mut heard, mut begun, mut offset) = (Vec::new(), BytesMut::new(), 0);
        while heard.len() < sent.len() {
            match daemon.request().await {
                Some(Request::AppendPart(part)) => begun.extend_from_slice(&part),
                Some(Request::Append(last)) => {
                    begun.extend_from_slice(&last);
                    offset += begun.len() as u64;
                    heard.push(begun.split().freeze());
                    daemon
                        .send(&Reply::Ack { chunks: heard.len() as u64, offset, readers: 0 })
                        .await;
                }
                other => panic!("{other:?}"),
            }
        }
        heard
    };
    let ((), heard) = promptly(async { tokio::join!(writing, hearing) }).await;
    assert!(heard == sent, "the daemon got other chunks");
    let total: usize = sizes.iter().sum();
    assert!(given_up.get() > total / ROOM / 2, "only {} calls were cancelled", given_up.get());
}
