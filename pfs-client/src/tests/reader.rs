//! Tests of the reader.

use std::time::Duration;

use bytes::Bytes;
use pfs_proto::{DataKind, ErrorCode, MAX_PAYLOAD, Reply};
use proptest::{collection::vec, prelude::*};
use tokio::time::timeout;

use super::{
    daemon::{Daemon, reader},
    violation,
};
use crate::{Chunks, End, Event, ProtocolError, ReadError, Reader, RequestError};

fn reading(start: u64) -> Reply {
    Reply::Reading { start, head: 100, content_type: Some("video/mp2t".into()) }
}

fn attached(start: u64) -> Event {
    Event::Attached { start, head: 100, content_type: Some("video/mp2t".into()) }
}

fn data(bytes: &'static [u8]) -> Reply {
    Reply::Data(Bytes::from_static(bytes))
}

fn part(bytes: &'static [u8]) -> Reply {
    Reply::DataPart(Bytes::from_static(bytes))
}

fn end(offset: u64) -> Reply {
    Reply::End { reason: End::Closed, offset }
}

/// An attached reader whose `Attached` event was already returned.
async fn attached_reader(size: usize, start: u64) -> (Reader, Daemon) {
    let (reader, daemon) = reader(size, reading(start)).await;
    let mut reader = reader.unwrap();
    assert_eq!(reader.next().await.unwrap(), attached(start));
    (reader, daemon)
}

/// The events of a reader that starts at offset 10 and gets these replies.
async fn events(replies: Vec<Reply>) -> (Vec<Event>, Result<u64, ReadError>) {
    let (mut reader, mut daemon) = attached_reader(8, 10).await;
    let telling = async {
        for reply in replies {
            daemon.send(&reply).await;
        }
        drop(daemon);
    };
    let listening = async {
        let mut events = Vec::new();
        loop {
            match reader.next().await {
                Ok(Event::End { offset, .. }) => return (events, Ok(offset)),
                Ok(event) => events.push(event),
                Err(error) => {
                    let again = reader.next().await.unwrap_err();
                    assert_eq!(again.to_string(), error.to_string());
                    return (events, Err(error));
                }
            }
        }
    };
    tokio::join!(telling, listening).1
}

#[tokio::test]
async fn an_offset_beyond_64_bits_is_a_protocol_error() {
    let start = u64::MAX - 1;
    let (mut reader, mut daemon) = attached_reader(64, start).await;
    daemon.send(&data(b"ab")).await;
    let error = reader.next().await.unwrap_err();
    let expected = ProtocolError::Offset { said: u64::MAX, counted: start };
    assert!(violation(&error) == Some(&expected), "{error:?}");
}

#[tokio::test]
async fn heartbeats_are_not_events_and_may_arrive_between_the_parts_of_a_chunk() {
    let replies = vec![
        Reply::Heartbeat,
        part(b"ab"),
        Reply::Heartbeat,
        data(b"c"),
        Reply::Heartbeat,
        end(13),
    ];
    let (events, ended) = events(replies).await;
    assert_eq!(events, [Event::Chunk(Bytes::from_static(b"abc"))]);
    assert_eq!(ended.unwrap(), 13);
}

#[tokio::test]
async fn a_reader_waits_is_attached_reads_and_ends() {
    let (reader, mut daemon) = reader(8, Reply::Waiting).await;
    let mut reader = reader.unwrap();
    assert_eq!(reader.next().await.unwrap(), Event::Waiting);
    assert!(timeout(Duration::ZERO, reader.next()).await.is_err());
    let telling = async {
        for reply in [
            reading(5),
            data(b"abc"),
            Reply::Gap { from: 8, to: 20, chunks: 2 },
            data(b"d"),
            end(21),
        ] {
            daemon.send(&reply).await;
        }
    };
    let listening = async {
        for (event, position) in [
            (attached(5), 5),
            (Event::Chunk(Bytes::from_static(b"abc")), 8),
            (Event::Gap { from: 8, to: 20, chunks: 2 }, 20),
            (Event::Chunk(Bytes::from_static(b"d")), 21),
            (Event::End { reason: End::Closed, offset: 21 }, 21),
            (Event::End { reason: End::Closed, offset: 21 }, 21),
        ] {
            assert_eq!((reader.next().await.unwrap(), reader.position()), (event, position));
        }
    };
    tokio::join!(telling, listening);
}

#[tokio::test]
async fn a_gap_that_arrives_with_chunks_counts_only_once_it_is_returned() {
    let (mut reader, mut daemon) = attached_reader(1000, 10).await;
    for reply in
        [data(b"ab"), data(b"c"), Reply::Gap { from: 13, to: 20, chunks: 2 }, data(b"d"), end(21)]
    {
        daemon.send(&reply).await;
    }
    let mut chunks = Chunks::new();
    for (event, bytes, position, lost) in [
        (None, "abc", 13, (0, 0)),
        (Some(Event::Gap { from: 13, to: 20, chunks: 2 }), "", 20, (7, 2)),
        (None, "d", 21, (7, 2)),
        (Some(Event::End { reason: End::Closed, offset: 21 }), "", 21, (7, 2)),
    ] {
        assert_eq!(reader.next_batch(&mut chunks).await.unwrap(), event);
        assert_eq!((chunks.bytes(), reader.position()), (bytes.as_bytes(), position));
        assert_eq!((reader.lost_bytes(), reader.lost_chunks()), lost);
    }
}

#[tokio::test]
async fn a_failure_to_attach_a_reader_is_returned_at_once() {
    let error = Reply::Error { code: ErrorCode::PastHead, message: "past head".into() };
    let error = reader(100, error).await.0.unwrap_err();
    assert!(matches!(error, RequestError::Daemon { code: ErrorCode::PastHead, .. }), "{error:?}");
    let error = reader(100, Reply::Done).await.0.unwrap_err();
    assert!(matches!(error, RequestError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_chunk_in_parts_is_one_chunk() {
    let (events, ended) =
        events(vec![data(b"0"), part(b"12"), part(b"34"), data(b"5"), data(b"6"), end(17)]).await;
    let chunks: Vec<_> =
        [&b"0"[..], b"12345", b"6"].map(|chunk| Event::Chunk(Bytes::from_static(chunk))).into();
    assert_eq!(events, chunks);
    assert_eq!(ended.unwrap(), 17);
}

#[tokio::test]
async fn a_gap_in_place_of_the_rest_of_a_chunk_discards_its_parts() {
    let gap = || Reply::Gap { from: 11, to: 20, chunks: 2 };
    let (events, ended) =
        events(vec![data(b"0"), part(b"12"), part(b"34"), gap(), data(b"5"), end(21)]).await;
    let chunk = |bytes| Event::Chunk(Bytes::from_static(bytes));
    assert_eq!(events, [chunk(b"0"), Event::Gap { from: 11, to: 20, chunks: 2 }, chunk(b"5")]);
    assert_eq!(ended.unwrap(), 21);
}

#[tokio::test]
async fn parts_without_end_are_a_protocol_error() {
    let (mut reader, mut daemon) = attached_reader(16 * 1024 * 1024, 0).await;
    let part = Reply::DataPart(vec![7; MAX_PAYLOAD].into());
    for reply in [&part, &part, &part, &data(b"0"), &part, &part, &part, &part, &part] {
        daemon.send(reply).await;
    }
    let chunk = reader.next().await.unwrap();
    assert!(matches!(&chunk, Event::Chunk(chunk) if chunk.len() == 3 * MAX_PAYLOAD + 1));
    let error = reader.next().await.unwrap_err();
    let expected = ProtocolError::TooLarge { most: 4 * 1024 * 1024 };
    assert!(violation(&error) == Some(&expected), "{error:?}");
}

#[tokio::test]
async fn wrong_offsets_and_unexpected_replies_are_protocol_errors() {
    for (replies, expected) in [
        (vec![data(b"abc"), end(12)], ProtocolError::Offset { said: 12, counted: 13 }),
        (vec![data(b"abc"), end(14)], ProtocolError::Offset { said: 14, counted: 13 }),
        (
            vec![Reply::Gap { from: 11, to: 13, chunks: 1 }],
            ProtocolError::Offset { said: 11, counted: 10 },
        ),
        (
            vec![Reply::Gap { from: 10, to: 10, chunks: 1 }],
            ProtocolError::Offset { said: 10, counted: 10 },
        ),
        (vec![part(b"a"), end(11)], ProtocolError::Unexpected { expected: "the rest of a chunk" }),
        (
            vec![part(b"a"), Reply::Gap { from: 11, to: 20, chunks: 1 }],
            ProtocolError::Offset { said: 11, counted: 10 },
        ),
        (vec![Reply::Waiting], ProtocolError::Unexpected { expected: "a chunk, a gap or the end" }),
    ] {
        let ended = events(replies).await.1;
        assert!(ended.as_ref().err().and_then(violation) == Some(&expected), "{ended:?}");
    }
}

#[tokio::test]
async fn only_an_end_event_ends_a_reader_without_an_error() {
    let told = |code| Reply::Error { code, message: "because".into() };
    let ended = events(vec![data(b"abc")]).await.1;
    assert!(matches!(ended, Err(ReadError::DaemonGone(_))), "{ended:?}");
    let ended = events(vec![part(b"abc")]).await.1;
    assert!(matches!(ended, Err(ReadError::DaemonGone(_))), "{ended:?}");
    let ended = events(vec![data(b"abc"), told(ErrorCode::ShuttingDown)]).await.1;
    assert!(matches!(ended, Err(ReadError::DaemonGone(_))), "{ended:?}");
    let ended = events(vec![data(b"abc"), told(ErrorCode::Removed)]).await.1;
    assert!(matches!(ended, Err(ReadError::Removed)), "{ended:?}");
    let ended = events(vec![part(b"abc"), told(ErrorCode::TooSlow)]).await.1;
    assert!(matches!(&ended, Err(ReadError::TooSlow { lag: None })), "{ended:?}");
    let ended = events(vec![told(ErrorCode::Internal)]).await.1;
    let Err(ReadError::Other(cause)) = ended else { panic!("{ended:?}") };
    assert_eq!(cause.to_string(), "because");
    assert_eq!(cause.downcast_ref().and_then(RequestError::code), Some(ErrorCode::Internal));
}

#[tokio::test]
async fn an_event_of_an_unknown_kind_or_size_is_an_error() {
    let (mut reader, mut daemon) = attached_reader(100, 0).await;
    let mut header = Vec::new();
    pfs_proto::put_data_header(&mut header, DataKind::Append, 0);
    daemon.send_bytes(&header).await;
    let error = reader.next().await.unwrap_err();
    assert!(matches!(violation(&error), Some(ProtocolError::Message(_))), "{error:?}");

    let (mut reader, mut daemon) = attached_reader(100, 0).await;
    daemon.send_bytes(&[0xff; 5]).await;
    let error = reader.next().await.unwrap_err();
    assert!(matches!(violation(&error), Some(ProtocolError::Frame(_))), "{error:?}");
}

#[tokio::test]
async fn events_that_arrived_together_are_returned_without_waiting() {
    let (mut reader, mut daemon) = attached_reader(1000, 0).await;
    for reply in [data(b"a"), data(b"b"), part(b"c")] {
        daemon.send(&reply).await;
    }
    assert_eq!(reader.try_next().unwrap(), None, "the reader has read nothing yet");
    assert_eq!(reader.next().await.unwrap(), Event::Chunk(Bytes::from_static(b"a")));
    assert_eq!(reader.try_next().unwrap(), Some(Event::Chunk(Bytes::from_static(b"b"))));
    assert_eq!(reader.try_next().unwrap(), None);
    daemon.send(&data(b"d")).await;
    assert_eq!(reader.next().await.unwrap(), Event::Chunk(Bytes::from_static(b"cd")));
}

#[tokio::test]
async fn a_waiting_reader_holds_no_buffer() {
    let (mut reader, mut daemon) = attached_reader(4 * 1024 * 1024, 0).await;
    daemon.send(&Reply::Data(vec![7; MAX_PAYLOAD + 5].into())).await;
    let chunk = reader.next().await.unwrap();
    assert!(matches!(&chunk, Event::Chunk(bytes) if bytes.len() == MAX_PAYLOAD + 5));
    drop(chunk);
    assert!(timeout(Duration::ZERO, reader.next()).await.is_err());
    assert!(reader.memory() <= 16 * 1024, "{} bytes", reader.memory());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Holds even if every wait for an event is cancelled as often as possible.
    #[test]
    fn bytes_and_gaps_are_what_lies_between_the_first_offset_and_the_last(
        start in 0u64..1000,
        steps in vec((any::<bool>(), 1usize..300), 0..40),
        pipe in 1usize..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut offset = start;
            let mut replies = Vec::new();
            for (is_gap, len) in steps {
                let to = offset + len as u64;
                replies.push(if is_gap {
                    Reply::Gap { from: offset, to, chunks: 1 }
                } else {
                    Reply::Data((offset..to).map(|at| at as u8).collect())
                });
                offset = to;
            }
            replies.push(end(offset));

            let (mut reader, mut daemon) = attached_reader(pipe, start).await;
            let telling = async {
                for reply in replies {
                    daemon.send(&reply).await;
                }
            };
            let listening = async {
                let mut counted = start;
                loop {
                    let event = tokio::select! {
                        biased;
                        event = reader.next() => event.unwrap(),
                        () = tokio::task::yield_now() => continue,
                    };
                    match event {
                        Event::Chunk(bytes) => {
                            for byte in bytes {
                                assert_eq!(byte, counted as u8);
                                counted += 1;
                            }
                        }
                        Event::Gap { from, to, .. } => {
                            assert_eq!(from, counted);
                            counted = to;
                        }
                        Event::End { offset, .. } => return (counted, offset),
                        other => panic!("{other:?}"),
                    }
                    assert_eq!(reader.position(), counted);
                }
            };
            let ((), (counted, said)) = tokio::join!(telling, listening);
            assert_eq!((counted, said), (offset, offset));
        });
    }
}
