//! Graceful shutdown: every client is told, and no client can delay it.

use std::time::Duration;

use pfs_proto::{ErrorCode, Hello, ReadOptions, Reply, Request, SlowPolicy, Until, WriteOptions};
use pfs_stream::StreamConfig;

use crate::harness::{Running, at, eventually, oldest};

#[tokio::test]
async fn every_client_is_told_that_the_daemon_shuts_down() {
    let mut running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let mut reader = running.client().await;
    reader.read_from("/streamfs/a", oldest()).await;
    let mut waiting = running.client().await;
    let wait = ReadOptions { wait: true, ..oldest() };
    assert_eq!(waiting.ask(Request::OpenReader(at("/streamfs/none"), wait)).await, Reply::Waiting);
    let mut alone = running.client().await;
    alone
        .send(&Request::OpenWriter(
            at("/streamfs/b"),
            WriteOptions { wait_readers: 1, ..WriteOptions::default() },
        ))
        .await;
    eventually(async || running.daemon.registry().len() == 2).await;
    let idle = running.client().await;
    let stranger = running.stranger().await;
    running.connections(6).await;

    running.stop();
    for mut client in [writer, reader, waiting, alone, idle, stranger] {
        let message = client.refused_for_good(ErrorCode::ShuttingDown).await;
        assert!(message.contains("shutting down"), "{message}");
    }
    let took = running.stopped().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn received_chunks_are_appended_and_acknowledged_before_the_shutdown_ends() {
    let mut running = Running::start();
    let stream = running.daemon.registry().create("/streamfs/a", StreamConfig::default()).unwrap();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    for _ in 0..50 {
        writer.append(b"0123456789").await;
    }
    eventually(async || stream.stat().head > 0).await;
    running.stop();
    let mut acked = 0;
    loop {
        match writer.reply().await {
            Some(Reply::Ack { offset, .. }) => acked = offset,
            Some(Reply::Error { code: ErrorCode::ShuttingDown, .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acked, stream.stat().head);
    running.stopped().await;
}

#[tokio::test]
async fn clients_that_do_not_read_cannot_delay_the_shutdown() {
    let mut running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let chunk = vec![0; 1024 * 1024];
    let mut stuck = Vec::new();
    for policy in [SlowPolicy::Drop, SlowPolicy::Block] {
        let mut reader = running.client().await;
        reader.read_from("/streamfs/a", ReadOptions { policy, ..oldest() }).await;
        stuck.push(reader);
    }
    for _ in 0..4 {
        writer.send(&Request::Append(chunk.clone().into())).await;
    }
    writer.acked(4).await;
    // A client that only sends requests and leaves the replies unread.
    let mut asking = running.stranger().await;
    asking.send(&Request::Hello(Hello::OURS)).await;
    let listing = tokio::spawn(async move {
        for _ in 0..100_000 {
            asking.send(&Request::Document(at("/streamfs/README"))).await;
        }
    });
    running.connections(4).await;
    running.stop();
    // Such clients are abandoned after two seconds, and cut off after four.
    let took = running.stopped().await;
    assert!(took < Duration::from_millis(3500), "{took:?}");
    listing.abort();
}

#[tokio::test]
async fn writers_of_an_aborted_daemon_do_not_count_as_dead() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let stream = running.daemon.registry().get("/streamfs/a").unwrap();
    let options = ReadOptions { until: Until::WritersGone, ..oldest() };
    let mut reader = stream.reader(options).unwrap();
    let daemon = running.cut().await;
    assert!(daemon.shutdown().is_cancelled());
    eventually(async || stream.stat().writers.is_empty()).await;
    assert_eq!(stream.stat().writers_died, 0);
    assert_eq!(reader.try_read(&mut Vec::new(), 1).unwrap(), None);
}

#[tokio::test]
async fn nobody_can_connect_once_the_shutdown_has_begun() {
    let mut running = Running::start();
    let socket = running.socket().to_owned();
    running.stop();
    running.stopped().await;
    let error = tokio::net::UnixStream::connect(socket).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
        ),
        "{error}"
    );
}
