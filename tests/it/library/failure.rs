//! Idle writers that wait for the failure of their stream.

use harness::{Transport, deadline, eventually};
use pfs_client::{Client, WriteError, WriteOptions, blocking};
use tokio::time::timeout;

use super::{block_on, client, daemon, endpoint, path};

/// Closes or removes the stream.
async fn end(client: &Client, removes: bool) {
    if removes {
        client.remove(&path()).await.unwrap()
    } else {
        client.close(&path()).await.unwrap()
    }
}

#[track_caller]
fn tells(failure: &WriteError, removes: bool) {
    match failure {
        WriteError::Closed if !removes => {}
        WriteError::Removed if removes => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_writer_that_waits_for_failure_is_told_when_its_stream_is_closed_or_removed() {
    for transport in Transport::ALL {
        for removes in [false, true] {
            let daemon = daemon(64 * 1024);
            let other = client(&daemon, transport).await;
            let mut writer = other.writer(&path(), WriteOptions::default()).await.unwrap();
            assert_eq!(writer.is_shm(), transport == Transport::Shm);
            writer.append(b"so far").await.unwrap();
            writer.flush().await.unwrap();
            let both = async { tokio::join!(writer.failure(), end(&other, removes)) };
            let (failure, ()) = timeout(deadline(), both).await.expect("it is told");
            tells(&failure, removes);
            tells(&writer.append(b"more").await.unwrap_err(), removes);
            assert_eq!(writer.acked(), 1, "{transport:?}");
        }
    }
}

#[test]
fn a_thread_that_waits_for_failure_is_told_when_its_stream_is_closed_or_removed() {
    for transport in Transport::ALL {
        for removes in [false, true] {
            let daemon = daemon(64 * 1024);
            let writers = blocking::Client::new(endpoint(&daemon, transport))
                .with_shm(transport == Transport::Shm);
            let mut writer = writers.writer(path(), WriteOptions::default()).unwrap();
            writer.append(b"so far").unwrap();
            writer.flush().unwrap();
            let waiting = std::thread::spawn(move || {
                let failure = writer.failure();
                tells(&writer.append(b"more").unwrap_err(), removes);
                failure
            });
            block_on(async { end(&client(&daemon, transport).await, removes).await });
            eventually("it is told", || waiting.is_finished());
            tells(&waiting.join().unwrap(), removes);
        }
    }
}
