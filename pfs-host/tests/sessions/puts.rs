//! Puts: one request creates a stream and appends to it, and the connection continues.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use pfs_host::{Daemon, Settings};
use pfs_proto::{
    End, ErrorCode, IfExists, PutOptions, ReadOptions, Reply, Request, SlowPolicy, StreamPath,
    WriteOptions,
};
use pfs_stream::{Read, Stream};

use crate::{
    CHUNK, all, chunk, daemon,
    link::{Far, greeted},
    path,
};

/// Capacity of a connection: more than a test ever has in flight.
const WIDE: usize = 1024 * 1024;

fn other(number: usize) -> StreamPath {
    format!("/streamfs/job-{number}").parse().unwrap()
}

/// Options of a stream that holds four chunks.
fn small() -> PutOptions {
    PutOptions::default().ring_buffer_size(4096).channel_buffer_size(4096)
}

fn put(path: StreamPath, options: PutOptions, chunk: impl AsRef<[u8]>) -> Request {
    Request::Put(path, options, chunk.as_ref().to_vec().into())
}

async fn ask(far: &mut Far, request: Request) -> Reply {
    far.send(&request).await;
    far.reply().await.unwrap()
}

/// Sends a request that is refused, and returns the error code.
async fn refused(far: &mut Far, request: Request) -> ErrorCode {
    match ask(far, request).await {
        Reply::Error { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn done(created: bool, offset: u64) -> Reply {
    Reply::Put { created, offset }
}

/// The contents of a stream, and whether the stream is closed.
fn contents(daemon: &Daemon, path: &StreamPath) -> (Vec<u8>, bool) {
    let stream = daemon.registry().get(path.as_str()).unwrap();
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    let mut bytes = Vec::new();
    loop {
        match reader.try_read(&mut bytes, usize::MAX).unwrap() {
            None => return (bytes, false),
            Some(Read::End(End::Closed)) => return (bytes, true),
            Some(Read::Data { .. }) => {}
            Some(other) => panic!("{other:?}"),
        }
    }
}

/// The numbers of writers that have finished and that have died.
fn writers(stream: &Stream) -> (u64, u64) {
    let stat = stream.stat();
    assert!(stat.writers.is_empty());
    (stat.writers_finished, stat.writers_died)
}

#[tokio::test]
async fn puts_that_are_sent_together_are_answered_in_order_with_few_writes_and_the_connection_goes_on()
 {
    const PUTS: usize = 500;
    let (daemon, stream) = daemon();
    let blocks = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let slow = stream.reader(blocks).unwrap();
    stream.writer().unwrap().try_append(vec![0; 4096]).unwrap();
    let mut far = greeted(&daemon, WIDE).await;
    // This put waits for the reader, so the other puts are all there when it continues.
    far.send(&put(path(), small(), "x")).await;
    let before = far.transport.writes.load(Ordering::Relaxed);
    let mut all = BytesMut::new();
    for number in 0..PUTS {
        // Each second put appends to the stream of the put before.
        put(other(number / 2), small(), vec![b'x'; number + 1]).encode(&mut all);
    }
    Request::Stat(other(0)).encode(&mut all);
    far.send_bytes(&all).await;
    drop(slow);
    assert_eq!(far.reply().await, Some(done(false, 4097)));
    for number in 0..PUTS as u64 {
        let (created, len) = (number % 2 == 0, number + 1);
        let offset = if created { len } else { number + len };
        assert_eq!(far.reply().await, Some(done(created, offset)), "put {number}");
    }
    let writes = far.transport.writes.load(Ordering::Relaxed) - before;
    assert!(writes <= PUTS / 50, "{writes} writes for {PUTS} answers");
    let Some(Reply::Stat(stat)) = far.reply().await else { panic!("no stats") };
    assert_eq!((stat.head, stat.chunks, stat.writers_finished, stat.writers_died), (3, 2, 2, 0));
    assert_eq!(far.reply().await, Some(Reply::Done));

    far.send(&Request::OpenWriter(path(), WriteOptions::default())).await;
    assert!(matches!(far.reply().await, Some(Reply::Writing { .. })));
}

#[tokio::test]
async fn a_put_to_an_existing_stream_fails_appends_or_replaces_and_closes_if_asked() {
    let (daemon, stream) = daemon();
    let mut far = greeted(&daemon, WIDE).await;
    assert_eq!(ask(&mut far, put(path(), small(), "one")).await, done(false, 3));
    let fails = small().if_exists(IfExists::Fail);
    assert_eq!(
        refused(&mut far, put(path(), fails.clone(), "two")).await,
        ErrorCode::AlreadyExists
    );
    assert_eq!(contents(&daemon, &path()), (b"one".to_vec(), false));
    assert_eq!(ask(&mut far, put(path(), small(), "")).await, done(false, 0));
    assert_eq!(writers(&stream), (2, 0));

    let replaces = small().if_exists(IfExists::Replace).content_type("text/plain").close(true);
    assert_eq!(ask(&mut far, put(path(), replaces, "anew")).await, done(true, 4));
    stream.removed().await;
    assert_eq!(contents(&daemon, &path()), (b"anew".to_vec(), true));
    let stream = daemon.registry().get(path().as_str()).unwrap();
    assert_eq!(stream.config().content_type.as_deref(), Some("text/plain"));
    assert_eq!(writers(&stream), (1, 0));

    assert_eq!(ask(&mut far, put(other(1), fails, "x")).await, done(true, 1));
    assert_eq!(ask(&mut far, put(other(1), small().close(true), "y")).await, done(false, 2));
    assert_eq!(contents(&daemon, &other(1)), (b"xy".to_vec(), true));
    assert_eq!(ask(&mut far, put(other(2), small(), "")).await, done(true, 0));
}

#[tokio::test]
async fn a_put_into_a_closed_stream_is_refused_and_the_connection_continues() {
    let (daemon, stream) = daemon();
    stream.close();
    let mut far = greeted(&daemon, WIDE).await;
    assert_eq!(refused(&mut far, put(path(), small(), "x")).await, ErrorCode::Closed);
    assert_eq!(writers(&stream), (0, 0));
    assert_eq!(ask(&mut far, put(other(1), small(), "x")).await, done(true, 1));
}

#[tokio::test]
async fn a_refused_put_changes_nothing() {
    let (daemon, stream) = daemon();
    let mut far = greeted(&daemon, WIDE).await;
    let large = [7; 4097];
    assert_eq!(refused(&mut far, put(other(1), small(), large)).await, ErrorCode::TooLarge);
    assert_eq!(refused(&mut far, put(path(), small(), large)).await, ErrorCode::TooLarge);
    let replaces = small().if_exists(IfExists::Replace);
    assert_eq!(refused(&mut far, put(path(), replaces, large)).await, ErrorCode::TooLarge);
    let bad = small().ttl(Duration::ZERO);
    assert_eq!(refused(&mut far, put(other(2), bad, "x")).await, ErrorCode::BadOption);
    daemon.set_limits(&Settings {
        limits: pfs_stream::Limits { max_streams: 1, ..Settings::default().limits },
        ..Settings::default()
    });
    assert_eq!(refused(&mut far, put(other(3), small(), "x")).await, ErrorCode::Limit);
    assert_eq!(daemon.registry().len(), 1);
    let there = daemon.registry().get(path().as_str()).unwrap();
    assert_eq!(there.identity(), stream.identity());
    assert_eq!((stream.stat().head, stream.stat().writers_died), (0, 0));
    assert_eq!(ask(&mut far, put(path(), small(), "x")).await, done(false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_waits_for_a_block_reader_delays_all_later_requests() {
    let (daemon, stream) = daemon();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut slow = stream.reader(options).unwrap();
    let mut far = greeted(&daemon, WIDE).await;
    let mut all = BytesMut::new();
    for number in 0..5 {
        put(path(), small(), chunk(number)).encode(&mut all);
    }
    put(other(1), small(), "after").encode(&mut all);
    far.send_bytes(&all).await;
    for number in 1..5 {
        assert_eq!(
            far.reply().await,
            Some(done(false, number * CHUNK as u64)),
            "the puts before have room"
        );
    }
    let waited = tokio::time::timeout(Duration::from_secs(3600), far.reply());
    assert!(waited.await.is_err(), "the fifth put has no room");
    assert!(daemon.registry().get(other(1).as_str()).is_none());
    assert_eq!(stream.stat().writers.len(), 1);

    let mut bytes = Vec::new();
    slow.try_read(&mut bytes, CHUNK).unwrap();
    assert_eq!(far.reply().await, Some(done(false, 5 * CHUNK as u64)));
    assert_eq!(far.reply().await, Some(done(true, 5)));
    while let Some(Read::Data { .. }) = slow.try_read(&mut bytes, usize::MAX).unwrap() {}
    assert_eq!(bytes, (0..5).flat_map(chunk).collect::<Vec<_>>());
    assert_eq!(writers(&stream), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn the_reply_to_a_put_is_sent_while_the_next_put_waits() {
    let (daemon, stream) = daemon();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let _slow = stream.reader(options).unwrap();
    stream.writer().unwrap().try_append(vec![0; 4095]).unwrap();
    let mut far = greeted(&daemon, WIDE).await;
    let mut both = BytesMut::new();
    put(path(), PutOptions::default(), "x").encode(&mut both);
    put(path(), PutOptions::default(), "y").encode(&mut both);
    far.send_bytes(&both).await;
    assert_eq!(far.reply().await, Some(done(false, 4096)));
    assert_eq!(stream.stat().writers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_put_waits_appends_nothing() {
    let (daemon, stream) = daemon();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let _slow = stream.reader(options).unwrap();
    stream.writer().unwrap().try_append(vec![0; 4096]).unwrap();
    let mut far = greeted(&daemon, WIDE).await;
    far.send(&put(path(), small(), "x")).await;
    while stream.stat().writers.is_empty() {
        tokio::task::yield_now().await;
    }
    let died = stream.stat().writers_died;
    far.transport.hang_up().await.unwrap();
    assert_eq!((stream.stat().head, stream.stat().writers_died), (4096, died + 1));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_a_stream_gets_the_chunk_that_creates_it() {
    let daemon = Arc::new(Daemon::new(&Settings::default()));
    let mut reader = greeted(&daemon, WIDE).await;
    let options = ReadOptions { wait: true, policy: SlowPolicy::Block, ..ReadOptions::default() };
    assert_eq!(ask(&mut reader, Request::OpenReader(path(), options)).await, Reply::Waiting);
    let mut far = greeted(&daemon, WIDE).await;
    assert_eq!(ask(&mut far, put(path(), small().close(true), "x")).await, done(true, 1));
    assert!(matches!(reader.reply().await, Some(Reply::Reading { start: 0, .. })));
    let (bytes, lost, end) = all(&mut reader).await;
    assert_eq!((&bytes[..], lost), (&b"x"[..], 0));
    assert_eq!(end, Reply::End { reason: End::Closed, offset: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_waiting_put_is_cut_off_by_the_shutdown_and_does_not_count_as_a_death() {
    let (daemon, stream) = daemon();
    let _slow =
        stream.reader(ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() }).unwrap();
    let mut far = greeted(&daemon, WIDE).await;
    for number in 0..4 {
        assert!(matches!(
            ask(&mut far, put(path(), small(), chunk(number))).await,
            Reply::Put { .. }
        ));
    }
    far.send(&put(path(), small(), chunk(4))).await;
    while stream.stat().writers.is_empty() {
        tokio::task::yield_now().await;
    }
    daemon.shutdown().cancel();
    assert!(matches!(far.reply().await, Some(Reply::Error { code: ErrorCode::ShuttingDown, .. })));
    assert_eq!(writers(&stream), (4, 0));
}

#[tokio::test]
async fn replies_to_puts_are_sent_while_a_writer_opened_after_them_waits() {
    let daemon = Arc::new(Daemon::new(&Settings::default()));
    let mut far = greeted(&daemon, WIDE).await;
    let mut both = BytesMut::new();
    put(path(), small(), "x").encode(&mut both);
    Request::OpenWriter(path(), WriteOptions::default().wait_readers(1)).encode(&mut both);
    far.send_bytes(&both).await;
    assert_eq!(far.reply().await, Some(done(true, 1)));
}
