//! The same code on an in-process stream and on a stream of a daemon.

use harness::{Daemon, Transport};
use pfs_client::{Finish, ReadOptions, WriteOptions};
use pfs_stream::{Event, ReadError, Stream, StreamConfig, StreamReader, StreamWriter, WriteError};

use super::{client, path};

/// Collects all events of a reader from its attachment on.
async fn all(mut reader: impl StreamReader) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    loop {
        let event = reader.next().await?;
        events.push(event.clone());
        match event {
            Event::Attached { .. } => {
                events.pop();
            }
            Event::Chunk(_) => assert_eq!(reader.lost_bytes(), 0),
            Event::End { offset, .. } => {
                assert_eq!(reader.position(), offset);
                return Ok(events);
            }
            _ => {}
        }
    }
}

/// Appends, closes the stream, and returns the error that a later writer gets.
async fn write(mut writer: impl StreamWriter, mut other: impl StreamWriter) -> (u64, WriteError) {
    writer.append(b"one").await.unwrap();
    writer.append(b"").await.unwrap();
    writer.append("two").await.unwrap();
    let large = vec![7; usize::try_from(writer.max_chunk()).unwrap() + 1];
    let refused = writer.append(&large).await.unwrap_err();
    assert!(matches!(refused, WriteError::TooLarge { .. }), "{refused:?}");
    writer.flush().await.unwrap();
    assert_eq!(writer.readers(), 1);
    let offset = writer.finish(Finish::Close).await.unwrap();
    let failure = async {
        other.append(b"more").await?;
        other.flush().await
    };
    (offset, failure.await.unwrap_err())
}

#[tokio::test]
async fn code_written_for_the_traits_works_with_and_without_a_daemon() {
    let stream = Stream::new("own", StreamConfig::default()).unwrap();
    let reader = stream.reader(ReadOptions::default()).unwrap();
    let writer = || stream.writer().unwrap();
    let (expected_offset, failure) = write(writer(), writer()).await;
    assert!(matches!(failure, WriteError::Closed), "{failure:?}");
    let expected = all(reader).await.unwrap();
    assert_eq!((expected.len(), expected_offset), (3, 6));

    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        let writer = async || client.writer(&path(), WriteOptions::default()).await.unwrap();
        let (first, second) = (writer().await, writer().await);
        let reader = client.reader(&path(), ReadOptions::default()).await.unwrap();
        let (offset, failure) = write(first, second).await;
        assert!(matches!(failure, WriteError::Closed), "{failure:?}");
        assert_eq!(
            (all(reader).await.unwrap(), offset),
            (expected.clone(), expected_offset),
            "{transport:?}"
        );
    }
}

#[tokio::test]
async fn the_death_of_a_daemon_is_reported_to_readers_and_writers_and_is_not_the_end() {
    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let reader = client.reader(&path(), ReadOptions::default()).await.unwrap();
        drop(daemon);
        let failure = all(reader).await.unwrap_err();
        assert!(matches!(failure, ReadError::DaemonGone(_)), "{failure:?}");
        let failure = loop {
            if let Err(failure) = StreamWriter::append(&mut writer, b"more").await {
                break failure;
            }
            if let Err(failure) = StreamWriter::flush(&mut writer).await {
                break failure;
            }
        };
        assert!(matches!(failure, WriteError::DaemonGone(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_request_right_after_a_writer_has_finished_is_answered() {
    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        for n in 1..=100 {
            let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
            writer.append(b"x").await.unwrap();
            assert_eq!(writer.finish(Finish::KeepOpen).await.unwrap(), n);
            let stat = client
                .stat(&path())
                .await
                .unwrap_or_else(|error| panic!("{transport:?}, {n}: {error:?}"));
            assert_eq!((stat.head, stat.writers_finished), (n, n));
        }
    }
}
