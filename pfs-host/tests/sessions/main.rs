//! Sessions over in-memory connections. The test sets the capacity of a connection, and the paused
//! clock advances only when everything waits.
#![allow(clippy::unwrap_used)] // clippy does not recognize test helpers

mod direct;
mod limits;
mod link;
mod old_peer;
mod parts;
mod patience;
mod puts;
mod quotas;
mod refusals;
mod reload;
mod replicating;
mod revoked;
mod stop;

use std::{sync::Arc, time::Duration};

use pfs_host::{Daemon, Settings};
use pfs_proto::{
    End, ErrorCode, ReadOptions, Reply, Request, SlowPolicy, StreamPath, Until, WriteOptions,
};
use pfs_stream::{Finish, Stream, StreamConfig};
use tokio::time::Instant;

use link::{Far, connect, greeted};

/// Capacity of a connection that holds far less than a chunk.
const NARROW: usize = 64;

const CHUNK: usize = 1000;

fn path() -> StreamPath {
    "/streamfs/s".parse().unwrap()
}

/// Creates a daemon, and a stream that holds four chunks.
fn daemon() -> (Arc<Daemon>, Stream) {
    let daemon = Daemon::new(&Settings::default());
    let sizes = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        ..StreamConfig::default()
    };
    let stream = daemon.registry().create(path().as_str(), sizes).unwrap();
    (Arc::new(daemon), stream)
}

async fn reader(daemon: &Arc<Daemon>, policy: SlowPolicy) -> Far {
    let mut far = greeted(daemon, NARROW).await;
    read(&mut far, path(), policy).await;
    far
}

/// Turns the connection into a reader's.
async fn read(far: &mut Far, path: StreamPath, policy: SlowPolicy) {
    let options = ReadOptions { policy, until: Until::Closed, ..ReadOptions::default() };
    far.send(&Request::OpenReader(path, options)).await;
    assert!(matches!(far.reply().await, Some(Reply::Reading { .. })));
}

/// The contents of chunk `number`.
fn chunk(number: usize) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); CHUNK]
}

/// Reads to the end. Returns the bytes of whole chunks, the bytes lost in gaps, and the last reply.
async fn all(far: &mut Far) -> (Vec<u8>, u64, Reply) {
    let (mut bytes, mut lost) = (Vec::new(), 0);
    loop {
        match far.reply().await.unwrap() {
            Reply::Data(data) => bytes.extend_from_slice(&data),
            Reply::Gap { from, to, .. } => lost += to - from,
            end @ (Reply::End { .. } | Reply::Error { .. }) => return (bytes, lost, end),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_hello_gets_an_error_after_five_seconds() {
    let (daemon, _) = daemon();
    let begun = Instant::now();
    let mut silent = connect::<true>(&daemon, 4096);
    assert!(matches!(silent.reply().await, Some(Reply::Error { code: ErrorCode::Timeout, .. })));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(silent.reply().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_stay_silent_after_its_hello_only_if_its_transport_may_pause() {
    let (daemon, _) = daemon();
    let mut patient = greeted(&daemon, 4096).await;
    let mut hasty = connect::<false>(&daemon, 4096);
    assert!(matches!(hasty.greet(0).await, Some(Reply::Hello(_))));
    let begun = Instant::now();
    assert!(matches!(hasty.reply().await, Some(Reply::Error { code: ErrorCode::Timeout, .. })));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    patient.send(&Request::Info).await;
    assert!(matches!(patient.reply().await, Some(Reply::Daemon(_))));
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_reads_nothing_is_not_waited_for() {
    let (daemon, _) = daemon();
    let begun = Instant::now();
    // The client sends no hello, and the error does not fit into the connection.
    let mut far = connect::<true>(&daemon, 8);
    (&mut far.transport.served).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up_two_seconds_into_the_shutdown() {
    let (daemon, stream) = daemon();
    let mut far = reader(&daemon, SlowPolicy::Drop).await;
    stream.writer().unwrap().try_append(chunk(0)).unwrap();
    tokio::task::yield_now().await;
    let begun = Instant::now();
    daemon.shutdown().cancel();
    (&mut far.transport.served).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(stream.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drop_reader_on_a_narrow_connection_gets_every_byte_or_a_gap() {
    let (daemon, stream) = daemon();
    let mut far = reader(&daemon, SlowPolicy::Drop).await;
    let mut writer = stream.writer().unwrap();
    for number in 0..50 {
        // No append waits for the reader.
        writer.try_append(chunk(number)).unwrap();
        tokio::task::yield_now().await;
    }
    writer.finish(Finish::Close);
    let (bytes, lost, end) = all(&mut far).await;
    assert!(matches!(end, Reply::End { reason: End::Closed, offset: 50_000 }), "{end:?}");
    assert!(lost > 0);
    assert_eq!(bytes.len() as u64 + lost, 50_000);
    assert!(
        bytes.chunks(CHUNK).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])),
        "a torn chunk"
    );
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_on_a_narrow_connection_gets_every_byte_and_its_writer_waits() {
    let (daemon, stream) = daemon();
    let mut far = reader(&daemon, SlowPolicy::Block).await;
    let mut sender = greeted(&daemon, NARROW).await;
    sender.send(&Request::OpenWriter(path(), WriteOptions::default())).await;
    let writing = tokio::spawn(async move {
        for number in 0..50 {
            sender.send(&Request::Append(chunk(number).into())).await;
        }
        sender.send(&Request::Finish { close: true }).await;
        while let Some(reply) = sender.reply().await {
            if reply == Reply::Done {
                return;
            }
        }
        panic!("the writer got no reply to its finish");
    });
    // Let the writer go as far as it can without the reader.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stream.stat().head < 10_000 && !writing.is_finished());
    let (bytes, lost, end) = all(&mut far).await;
    writing.await.unwrap();
    assert!(matches!(end, Reply::End { reason: End::Closed, offset: 50_000 }), "{end:?}");
    assert_eq!((bytes, lost), ((0..50).flat_map(chunk).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_reader_on_a_narrow_connection_gets_the_error_too_slow() {
    let (daemon, stream) = daemon();
    let mut far = reader(&daemon, SlowPolicy::Disconnect).await;
    let mut writer = stream.writer().unwrap();
    for number in 0..50 {
        writer.try_append(chunk(number)).unwrap();
        tokio::task::yield_now().await;
    }
    // A reader of another policy would get to the end.
    writer.finish(Finish::Close);
    let (bytes, lost, end) = all(&mut far).await;
    assert!(matches!(end, Reply::Error { code: ErrorCode::TooSlow, .. }), "{end:?}");
    assert!(bytes.len() < 50_000 && lost == 0);
    assert_eq!(far.reply().await, None);
}
