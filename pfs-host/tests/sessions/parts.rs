//! Large chunks that are sent in parts, and overwritten after a part was sent.

use std::sync::Arc;

use pfs_host::{Daemon, Settings};
use pfs_proto::{End, ErrorCode, ReadOptions, Reply, Request, SlowPolicy};
use pfs_stream::{Stream, StreamConfig};
use tokio::task::yield_now;

use crate::{
    link::{Far, connect_over, greeted},
    path,
};

/// Several parts, and half of the ring.
const LARGE: usize = 200 * 1024;

/// Capacity of a connection: one part, and some of the next.
const CONNECTION: usize = 100 * 1024;

/// Creates a stream that holds two large chunks, and a reader of it.
async fn reader(policy: SlowPolicy) -> (Far, Stream) {
    let daemon = Arc::new(Daemon::new(&Settings::default()));
    let size = 2 * LARGE as u64;
    let sizes = StreamConfig {
        ring_buffer_size: size,
        channel_buffer_size: size,
        ..StreamConfig::default()
    };
    let stream = daemon.registry().create(path().as_str(), sizes).unwrap();
    let mut far = greeted(&daemon, CONNECTION).await;
    far.send(&Request::OpenReader(path(), ReadOptions { policy, ..ReadOptions::default() })).await;
    assert!(matches!(far.reply().await, Some(Reply::Reading { .. })));
    (far, stream)
}

fn append(stream: &Stream, letter: u8, len: usize) -> bool {
    stream.writer().unwrap().try_append(vec![letter; len]).is_ok()
}

/// Appends a small chunk and a large one, and receives the first part of the large chunk. The
/// connection cannot hold all of that chunk.
async fn first_part(far: &mut Far, stream: &Stream) -> usize {
    assert!(append(stream, b'a', 10) && append(stream, b'b', LARGE));
    assert_eq!(far.reply().await, Some(Reply::Data(vec![b'a'; 10].into())));
    let Some(Reply::DataPart(part)) = far.reply().await else { panic!("no part of a chunk") };
    assert!(part.len() <= 64 * 1024 && part.iter().all(|byte| *byte == b'b'));
    part.len()
}

#[tokio::test(start_paused = true)]
async fn a_chunk_overwritten_after_its_first_part_was_sent_is_a_gap_from_its_start() {
    let (mut far, stream) = reader(SlowPolicy::Drop).await;
    let mut got = first_part(&mut far, &stream).await;
    let position = |stream: &Stream| stream.stat().readers.first().unwrap().position;
    assert_eq!(position(&stream), 10, "a part of a chunk does not count as read");
    for letter in [b'c', b'd'] {
        assert!(append(&stream, letter, LARGE));
    }
    stream.close();
    let gap = loop {
        match far.reply().await.unwrap() {
            Reply::DataPart(part) => got += part.len(),
            other => break other,
        }
    };
    assert!(got < LARGE);
    let end = 10 + LARGE as u64;
    assert_eq!(gap, Reply::Gap { from: 10, to: end, chunks: 1 });
    let mut rest = Vec::new();
    loop {
        match far.reply().await.unwrap() {
            Reply::Data(part) | Reply::DataPart(part) => rest.extend_from_slice(&part),
            last => {
                assert_eq!(
                    last,
                    Reply::End { reason: End::Closed, offset: end + 2 * LARGE as u64 }
                );
                break;
            }
        }
    }
    assert_eq!(rest, [vec![b'c'; LARGE], vec![b'd'; LARGE]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_reader_overtaken_inside_a_chunk_gets_its_lag_from_the_chunk_start() {
    let (mut far, stream) = reader(SlowPolicy::Disconnect).await;
    first_part(&mut far, &stream).await;
    assert!(append(&stream, b'c', LARGE) && append(&stream, b'd', LARGE));
    loop {
        match far.reply().await.unwrap() {
            Reply::DataPart(_) => {}
            Reply::Error { code, message } => {
                assert_eq!(code, ErrorCode::TooSlow);
                let lag = 3 * LARGE;
                assert!(message.contains(&lag.to_string()), "{message} does not say {lag}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_block_reader_that_has_a_part_of_a_chunk() {
    let (mut far, stream) = reader(SlowPolicy::Block).await;
    let mut got = first_part(&mut far, &stream).await;
    assert!(!append(&stream, b'c', LARGE + 1), "the ring has no room for the rest of the chunk");
    loop {
        match far.reply().await.unwrap() {
            Reply::DataPart(part) => got += part.len(),
            Reply::Data(part) => {
                assert_eq!(got + part.len(), LARGE);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    yield_now().await;
    assert!(append(&stream, b'c', LARGE + 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_removed_while_a_chunk_is_sent_ends_with_the_removal_not_the_chunk() {
    let (mut far, stream) = reader(SlowPolicy::Drop).await;
    first_part(&mut far, &stream).await;
    stream.remove();
    loop {
        match far.reply().await.unwrap() {
            Reply::DataPart(_) => {}
            Reply::Error { code, .. } => break assert_eq!(code, ErrorCode::Removed),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_is_detached_even_if_its_transport_never_drops_its_bytes() {
    let daemon = Arc::new(Daemon::new(&Settings::default()));
    let stream = daemon.registry().create(path().as_str(), StreamConfig::default()).unwrap();
    let mut far = connect_over::<true, true>(&daemon, CONNECTION);
    assert!(matches!(far.greet(0).await, Some(Reply::Hello(_))));
    far.send(&Request::OpenReader(path(), ReadOptions::default())).await;
    assert!(matches!(far.reply().await, Some(Reply::Reading { .. })));
    assert!(append(&stream, b'a', LARGE));
    yield_now().await;
    far.transport.leave();
    tokio::time::timeout(std::time::Duration::from_secs(60), &mut far.transport.served)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stream.readers(), 0);
}
