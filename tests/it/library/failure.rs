//! Writers that have nothing to append and wait for bad news.

use harness::{Way, deadline, eventually};
use pfs_client::{Client, WriteError, WriteOptions, blocking};
use tokio::time::timeout;

use super::{block_on, client, daemon, endpoint, path};

/// Closes the stream, or removes it.
async fn end(client: &Client, removes: bool) {
    if removes { client.remove(&path()).await.unwrap() } else { client.close(&path()).await.unwrap() }
}

#[track_caller]
fn tells(failure: &WriteError, removes: bool) {
    match failure {
        WriteError::Closed { message } if !removes => assert!(message.contains("is closed"), "{message}"),
        WriteError::Removed { message } if removes => assert!(message.contains("was removed"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_writer_that_waits_for_bad_news_is_told_when_its_stream_is_closed_or_removed() {
    for way in Way::ALL {
        for removes in [false, true] {
            let daemon = daemon(64 << 10);
            let other = client(&daemon, way).await;
            let mut writer = other.writer(&path(), WriteOptions::default()).await.unwrap();
            assert_eq!(writer.is_mapped(), way == Way::Mapped);
            writer.append(b"so far").await.unwrap();
            writer.flush().await.unwrap();
            let both = async { tokio::join!(writer.failure(), end(&other, removes)) };
            let (failure, ()) = timeout(deadline(), both).await.expect("it is told");
            tells(&failure, removes);
            tells(&writer.append(b"more").await.unwrap_err(), removes);
            assert_eq!(writer.acked(), 1, "{way:?}");
        }
    }
}

#[test]
fn a_thread_that_waits_for_bad_news_is_told_when_its_stream_is_closed_or_removed() {
    for way in Way::ALL {
        for removes in [false, true] {
            let daemon = daemon(64 << 10);
            let writers = blocking::Client::new(endpoint(&daemon, way)).with_mapping(way == Way::Mapped);
            let mut writer = writers.writer(&path(), WriteOptions::default()).unwrap();
            writer.append(b"so far").unwrap();
            writer.flush().unwrap();
            let waiting = std::thread::spawn(move || {
                let failure = writer.failure();
                tells(&writer.append(b"more").unwrap_err(), removes);
                failure
            });
            block_on(async { end(&client(&daemon, way).await, removes).await });
            eventually("it is told", || waiting.is_finished());
            tells(&waiting.join().unwrap(), removes);
        }
    }
}
