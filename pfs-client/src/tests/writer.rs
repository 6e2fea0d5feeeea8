//! Tests of the writer.

use std::time::Duration;

use bytes::Bytes;
use pfs_proto::{ErrorCode, MAX_PAYLOAD, Reply, Request};
use tokio::{net::UnixStream, time::timeout};

use super::{
    daemon::{Daemon, pipe, promptly, writer},
    violation_of,
};
use crate::{
    Finish, ProtocolError, RequestError, WriteError, WriteOptions, Writer, connection::Connection,
};

fn append(bytes: &'static [u8]) -> Option<Request> {
    Some(Request::Append(Bytes::from_static(bytes)))
}

fn ack(chunks: u64, offset: u64) -> Reply {
    Reply::Ack { chunks, offset, readers: 0 }
}

#[tokio::test]
async fn an_acknowledgement_carries_the_number_of_readers() {
    let (mut writer, mut daemon) = writer(pipe(1024 * 1024), 100).await;
    assert_eq!(writer.readers(), 0);
    for (chunks, readers) in [(1, 3), (2, 1)] {
        writer.append(b"abc").await.unwrap();
        daemon.send(&Reply::Ack { chunks, offset: 3 * chunks, readers }).await;
        writer.flush().await.unwrap();
        assert_eq!(writer.readers(), readers);
    }
}

fn removed() -> Reply {
    Reply::Error { code: ErrorCode::Removed, message: "it was removed".into() }
}

/// Receives one whole chunk.
async fn chunk(daemon: &mut Daemon) -> Option<Vec<u8>> {
    let mut chunk = Vec::new();
    loop {
        match daemon.request().await? {
            Request::AppendPart(part) => chunk.extend_from_slice(&part),
            Request::Append(last) => {
                chunk.extend_from_slice(&last);
                return Some(chunk);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn appends_are_sent_at_once_without_waiting_for_acknowledgements() {
    let (mut writer, mut daemon) = writer(pipe(1024 * 1024), 100).await;
    for _ in 0..100 {
        writer.append(b"abc").await.unwrap();
    }
    assert_eq!((writer.appended(), writer.acked()), (100, 0));
    for _ in 0..100 {
        assert_eq!(daemon.request().await, append(b"abc"));
    }
}

#[tokio::test]
async fn flush_returns_when_everything_is_acknowledged_and_not_before() {
    let (mut writer, mut daemon) = writer(pipe(1024 * 1024), 100).await;
    writer.append(b"abc").await.unwrap();
    writer.append(b"def").await.unwrap();
    daemon.send(&ack(1, 3)).await;
    assert!(timeout(Duration::ZERO, writer.flush()).await.is_err());
    assert_eq!(writer.acked(), 1);
    daemon.send(&ack(2, 6)).await;
    writer.flush().await.unwrap();
    assert_eq!(writer.acked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_reads_on_only_after_its_acknowledgement_was_read_causes_no_deadlock() {
    let (mut writer, mut daemon) = writer(pipe(8), 1024 * 1024).await;
    let large = vec![7; 100_000];
    let writing = async {
        for _ in 0..100 {
            writer.append(b"a small chunk").await.unwrap();
        }
        writer.append(&large).await.unwrap();
        writer.finish(Finish::KeepOpen).await.unwrap()
    };
    let listening = async {
        let mut offset = 0;
        for chunks in 1..=101 {
            offset += chunk(&mut daemon).await.unwrap().len() as u64;
            for _ in 0..3 {
                daemon.send(&ack(chunks, offset)).await;
            }
        }
        assert_eq!(daemon.request().await, Some(Request::Finish { close: false }));
        daemon.send(&ack(101, offset)).await;
        daemon.send(&Reply::Done).await;
        offset
    };
    let (said, counted) = promptly(async { tokio::join!(writing, listening) }).await;
    assert_eq!((said, counted), (101_300, 101_300));
}

#[tokio::test]
async fn send_sends_pushed_chunks_in_order() {
    let (mut writer, mut daemon) = writer(pipe(1024 * 1024), 100).await;
    writer.push(b"one").await.unwrap();
    writer.push(b"two").await.unwrap();
    assert!(
        timeout(Duration::ZERO, daemon.request()).await.is_err(),
        "the small chunk was sent too early"
    );
    writer.append(b"three").await.unwrap();
    writer.push(b"four").await.unwrap();
    writer.send().await.unwrap();
    for expected in [&b"one"[..], b"two", b"three", b"four"] {
        assert_eq!(chunk(&mut daemon).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn endless_pushes_are_sent_and_buffer_no_more_than_the_queue() {
    let (mut writer, mut daemon) = writer(pipe(1024), 100).await;
    let pushing = async {
        for _ in 0..20_000 {
            writer.push(b"12345").await.unwrap();
        }
        drop(writer);
    };
    let counting = async {
        let mut count = 0;
        while daemon.request().await.is_some() {
            count += 1;
        }
        count
    };
    let ((), count) = tokio::join!(pushing, counting);
    // Each frame takes 10 bytes. The missing chunks are still in the queue, which holds less than
    // 64 KiB.
    assert!((13_500..20_000).contains(&count), "{count}");
}

#[tokio::test]
async fn a_chunk_larger_than_a_frame_arrives_whole() {
    let (mut writer, mut daemon) = writer(pipe(50_000), 10 * 1024 * 1024).await;
    let large: Vec<u8> = (0..2 * MAX_PAYLOAD + 77).map(|i| (i % 253) as u8).collect();
    let writing = async {
        writer.push(b"before").await.unwrap();
        writer.append(&large).await.unwrap();
        writer.append(b"after").await.unwrap();
    };
    let listening = async {
        assert_eq!(chunk(&mut daemon).await.unwrap(), b"before");
        assert!(chunk(&mut daemon).await.unwrap() == large);
        assert_eq!(chunk(&mut daemon).await.unwrap(), b"after");
    };
    tokio::join!(writing, listening);
}

#[tokio::test(start_paused = true)]
async fn the_next_call_sends_the_rest_of_a_cancelled_append() {
    let large: Vec<u8> = (0..MAX_PAYLOAD + 9_000).map(|i| (i % 253) as u8).collect();
    for size in [3, 1000, MAX_PAYLOAD + 100] {
        let (mut writer, mut daemon) = writer(pipe(size), 10 * 1024 * 1024).await;
        assert!(
            timeout(Duration::ZERO, writer.append(&large)).await.is_err(),
            "the append was not cancelled"
        );
        assert_eq!(writer.appended(), 1);
        let writing = writer.append(b"after");
        let listening = async {
            assert!(chunk(&mut daemon).await.unwrap() == large, "through a pipe of {size}");
            assert_eq!(chunk(&mut daemon).await.unwrap(), b"after");
        };
        promptly(async { tokio::join!(writing, listening).0.unwrap() }).await;
    }
}

#[tokio::test]
async fn a_chunk_that_is_too_large_is_refused_and_the_writer_stays_usable() {
    let (mut writer, mut daemon) = writer(pipe(100), 4).await;
    let error = writer.append(b"12345").await.unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { size: 5, max: 4 }), "{error:?}");
    writer.append(b"").await.unwrap();
    writer.append(b"1234").await.unwrap();
    assert_eq!(writer.appended(), 1);
    assert_eq!(daemon.request().await, append(b"1234"));
}

#[tokio::test]
async fn the_daemons_error_is_returned_instead_of_the_broken_pipe() {
    let (client, daemon) = UnixStream::pair().unwrap();
    let sockets = (client, Daemon::new(Box::new(daemon)));
    let (mut writer, mut daemon) = writer(sockets, 1024 * 1024).await;
    writer.append(&[1; 10_000]).await.unwrap();
    // The daemon closes the connection with unread bytes, as after it refuses a writer that sends
    // at full speed.
    daemon.send(&removed()).await;
    drop(daemon);
    let error = loop {
        if let Err(error) = writer.append(&[1; 10_000]).await {
            break error;
        }
    };
    assert!(matches!(error, WriteError::Removed), "{error:?}");
    let again = writer.finish(Finish::KeepOpen).await.unwrap_err();
    assert!(matches!(again, WriteError::Removed), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_a_writer_in_the_middle_of_a_chunk() {
    let (mut writer, mut daemon) = writer(pipe(8), 1024 * 1024).await;
    let (large, removed) = (vec![7; 100_000], removed());
    let both = async { tokio::join!(writer.append(&large), daemon.send(&removed)) };
    let (error, ()) = promptly(both).await;
    assert!(matches!(error, Err(WriteError::Removed)), "{error:?}");
}

#[tokio::test]
async fn a_connection_closed_without_a_message_is_reported_as_daemon_gone() {
    let (mut writer, daemon) = writer(pipe(100), 1024 * 1024).await;
    drop(daemon);
    let error = writer.append(b"abc").await.unwrap_err();
    assert!(matches!(error, WriteError::DaemonGone(_)), "{error:?}");
    let error = writer.flush().await.unwrap_err();
    assert!(matches!(error, WriteError::DaemonGone(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_shuts_down_is_reported_as_daemon_gone() {
    let (writer, mut daemon) = writer(pipe(100), 1024 * 1024).await;
    daemon.send(&Reply::Error { code: ErrorCode::ShuttingDown, message: String::new() }).await;
    drop(daemon);
    match promptly(writer.finish(Finish::KeepOpen)).await.unwrap_err() {
        WriteError::DaemonGone(why) => assert_eq!(why.to_string(), "the daemon is shutting down"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_writer_with_nothing_to_append_can_wait_for_a_failure() {
    let (mut writer, mut daemon) = writer(pipe(100), 1024 * 1024).await;
    writer.append(b"abc").await.unwrap();
    assert!(timeout(Duration::ZERO, writer.failure()).await.is_err());
    daemon.send(&ack(1, 3)).await;
    let (error, ()) = tokio::join!(writer.failure(), async {
        tokio::task::yield_now().await;
        daemon
            .send(&Reply::Error { code: ErrorCode::Closed, message: "it was closed".into() })
            .await;
    });
    assert!(matches!(error, WriteError::Closed), "{error:?}");
    assert_eq!(writer.acked(), 1);
}

#[tokio::test]
async fn finish_returns_the_offset_of_the_last_acknowledgement() {
    for (finish, close) in [(Finish::KeepOpen, false), (Finish::Close, true)] {
        let (mut writer, mut daemon) = writer(pipe(100), 100).await;
        writer.push(b"abc").await.unwrap();
        let (offset, ()) = tokio::join!(writer.finish(finish), async {
            assert_eq!(daemon.request().await, append(b"abc"));
            assert_eq!(daemon.request().await, Some(Request::Finish { close }));
            daemon.send(&ack(1, 42)).await;
            daemon.send(&Reply::Done).await;
        });
        assert_eq!(offset.unwrap(), 42);
    }
}

#[tokio::test]
async fn a_failing_writer_sends_fail_after_all_of_its_chunks() {
    for (finish, close) in [(Finish::Failed, false), (Finish::CloseFailed, true)] {
        let (mut writer, mut daemon) = writer(pipe(100), 100).await;
        writer.push(b"abc").await.unwrap();
        let (offset, ()) = tokio::join!(writer.finish(finish), async {
            assert_eq!(daemon.request().await, append(b"abc"));
            assert_eq!(daemon.request().await, Some(Request::Fail { close }));
            daemon.send(&ack(1, 42)).await;
            daemon.send(&Reply::Done).await;
        });
        assert_eq!(offset.unwrap(), 42);
    }
}

#[tokio::test]
async fn a_writer_that_withdraws_sends_nothing_else() {
    let (writer, mut daemon) = writer(pipe(100), 100).await;
    let (withdrawn, ()) = tokio::join!(writer.withdraw(), async {
        assert_eq!(daemon.request().await, Some(Request::Withdraw));
        daemon.send(&Reply::Done).await;
    });
    withdrawn.unwrap();
}

#[tokio::test]
async fn a_writer_that_is_dropped_does_not_look_finished() {
    let (mut writer, mut daemon) = writer(pipe(100), 100).await;
    writer.append(b"abc").await.unwrap();
    drop(writer);
    assert_eq!(daemon.request().await, append(b"abc"));
    assert_eq!(daemon.request().await, None);
}

#[tokio::test(start_paused = true)]
async fn wrong_acknowledgements_and_unexpected_replies_are_protocol_errors() {
    for replies in [
        &[ack(2, 3)][..],
        &[ack(1, 3), ack(0, 3)],
        &[ack(1, 3), ack(1, 2)],
        &[Reply::Done],
        &[Reply::Waiting],
    ] {
        let (mut writer, mut daemon) = writer(pipe(1000), 100).await;
        writer.append(b"abc").await.unwrap();
        for reply in replies {
            daemon.send(reply).await;
        }
        let error = promptly(writer.finish(Finish::KeepOpen)).await.unwrap_err();
        let WriteError::Other(cause) = error else { panic!("{error:?}") };
        let violation = violation_of(&cause).expect("the daemon broke the protocol");
        assert!(!matches!(violation, ProtocolError::Message(_)), "{violation:?}");
    }
}

#[tokio::test]
async fn a_daemon_that_knows_no_marks_is_told_none_and_the_writer_stays_usable() {
    // The daemon of these tests has no capability.
    let (mut writer, mut daemon) = writer(pipe(1024 * 1024), 100).await;
    let WriteError::Other(error) = writer.mark_sync().unwrap_err() else { panic!("refused") };
    assert!(error.to_string().contains("is older than this program"), "{error}");
    writer.append(b"abc").await.unwrap();
    assert_eq!(daemon.request().await, append(b"abc"));

    let (client, mut daemon) = pipe(1024 * 1024);
    let open = async {
        let connection = Connection::open(client).await.unwrap();
        Writer::open(connection, super::daemon::path(), WriteOptions::default().header_bytes(10))
            .await
    };
    let (opened, ()) = tokio::join!(open, daemon.welcome());
    assert!(matches!(opened, Err(RequestError::Unsupported { .. })), "{opened:?}");
    assert_eq!(daemon.request().await, None, "nothing was created");
}
