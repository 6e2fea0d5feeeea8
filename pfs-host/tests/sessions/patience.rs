//! Time limit for writers that wait for `block` readers (`limits.max_block_time`).

use std::{sync::Arc, time::Duration};

use pfs_host::{Daemon, Settings};
use pfs_proto::{End, ReadOptions, Reply, Request, SlowPolicy, WriteOptions};
use pfs_stream::{Read, Reader, Stream, StreamConfig};
use tokio::time::Instant;

use crate::{CHUNK, NARROW, all, chunk, direct::caller, link::greeted, path, reader};

const LIMIT: Duration = Duration::from_secs(10);

/// Creates a daemon with this limit, and a stream that holds four chunks.
fn daemon(max_block_time: Option<Duration>) -> (Arc<Daemon>, Stream) {
    let daemon = Daemon::new(&Settings { max_block_time, ..Settings::default() });
    let sizes = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        ..StreamConfig::default()
    };
    let stream = daemon.registry().create(path().as_str(), sizes).unwrap();
    (Arc::new(daemon), stream)
}

fn blocker(stream: &Stream) -> Reader {
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    stream.reader(options).unwrap()
}

/// The policy of each reader, and whether it was `block` before.
fn policies(stream: &Stream) -> Vec<(SlowPolicy, bool)> {
    stream.stat().readers.iter().map(|reader| (reader.policy, reader.was_block)).collect()
}

/// Appends this many chunks, of which four find room.
async fn append(daemon: &Daemon, stream: &Stream, chunks: usize) {
    let caller = caller(None);
    let place = daemon.writable(&caller, &path()).unwrap();
    let mut append = place.append(stream).await.unwrap();
    for number in 0..chunks {
        append.append(&chunk(number)).await.unwrap();
    }
    append.finish(true);
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_that_keeps_a_writer_waiting_for_too_long_becomes_a_drop_reader_and_gets_a_gap()
 {
    let (daemon, stream) = daemon(Some(LIMIT));
    let mut slow = blocker(&stream);
    let begun = Instant::now();
    append(&daemon, &stream, 10).await;
    assert_eq!(begun.elapsed(), LIMIT, "the writer waited once");
    assert_eq!(policies(&stream), [(SlowPolicy::Drop, true)]);
    let totals = daemon.totals(&caller(None)).unwrap();
    assert_eq!((totals.given_up, totals.readers_drop, totals.readers_block), (1, 1, 0));

    let mut bytes = Vec::new();
    let gap = slow.try_read(&mut bytes, usize::MAX).unwrap();
    assert_eq!(gap, Some(Read::Gap { from: 0, to: 6000, chunks: 6 }));
    let data = slow.try_read(&mut bytes, usize::MAX).unwrap();
    assert_eq!(data, Some(Read::Data { chunks: 4, bytes: 4000 }));
    assert_eq!(bytes, (6..10).flat_map(chunk).collect::<Vec<_>>());
    assert_eq!(slow.try_read(&mut bytes, 1).unwrap(), Some(Read::End(End::Closed)));
}

#[tokio::test(start_paused = true)]
async fn only_readers_that_keep_a_writer_waiting_for_too_long_are_given_up() {
    let (daemon, stream) = daemon(Some(LIMIT));
    let (_one, _two) = (blocker(&stream), blocker(&stream));
    let mut reads = blocker(&stream);
    let reading = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while !matches!(reads.read(&mut bytes, CHUNK).await.unwrap(), Read::End(_)) {}
        (bytes, reads)
    });
    let begun = Instant::now();
    append(&daemon, &stream, 10).await;
    assert_eq!(begun.elapsed(), LIMIT);
    let (bytes, _reads) = reading.await.unwrap();
    assert_eq!(bytes, (0..10).flat_map(chunk).collect::<Vec<_>>(), "nothing was lost");
    let (drop, block) = ((SlowPolicy::Drop, true), (SlowPolicy::Block, false));
    assert_eq!(policies(&stream), [drop, drop, block]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_block_reader_that_makes_room_in_time_loses_nothing() {
    let (daemon, stream) = daemon(Some(LIMIT));
    let mut slow = blocker(&stream);
    let reading = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while !matches!(slow.read(&mut bytes, 1).await.unwrap(), Read::End(_)) {
            tokio::time::sleep(LIMIT - Duration::from_millis(10)).await;
        }
        bytes
    });
    append(&daemon, &stream, 20).await;
    assert_eq!(reading.await.unwrap(), (0..20).flat_map(chunk).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_writer_waits_for_a_block_reader_forever() {
    let (daemon, stream) = daemon(None);
    let _slow = blocker(&stream);
    let waited =
        tokio::time::timeout(Duration::from_secs(365 * 24 * 3600), append(&daemon, &stream, 10));
    assert!(waited.await.is_err());
    assert_eq!(policies(&stream), [(SlowPolicy::Block, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_while_a_writer_waits_holds_from_then_on_and_one_that_is_unset_does_not()
 {
    for (before, after, waits) in
        [(None, Some(LIMIT), Some(3 * LIMIT)), (Some(3 * LIMIT), None, None)]
    {
        let (daemon, stream) = daemon(before);
        let _slow = blocker(&stream);
        let begun = Instant::now();
        let changed = async {
            tokio::time::sleep(2 * LIMIT).await;
            daemon.set_limits(&Settings { max_block_time: after, ..Settings::default() });
        };
        let append = tokio::time::timeout(100 * LIMIT, append(&daemon, &stream, 10));
        let (appended, ()) = tokio::join!(append, changed);
        assert_eq!(appended.ok().map(|()| begun.elapsed()), waits);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_applies_to_a_batch_too() {
    let (daemon, stream) = daemon(Some(LIMIT));
    let _slow = blocker(&stream);
    let caller = caller(None);
    let place = daemon.writable(&caller, &path()).unwrap();
    let mut append = place.append(&stream).await.unwrap();
    let begun = Instant::now();
    for number in 0..3 {
        append.append_all(&[&chunk(number), &chunk(number)]).await.unwrap();
    }
    assert_eq!(begun.elapsed(), LIMIT);
    append.finish(true);
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_on_a_narrow_connection_that_takes_nothing_is_given_up_and_told_what_it_lost()
 {
    let (daemon, stream) = daemon(Some(LIMIT));
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
    writing.await.unwrap();
    assert_eq!(policies(&stream), [(SlowPolicy::Drop, true)]);
    let (bytes, lost, end) = all(&mut far).await;
    assert!(matches!(end, Reply::End { reason: End::Closed, offset: 50_000 }), "{end:?}");
    assert!(lost > 0);
    assert_eq!(bytes.len() as u64 + lost, 50_000);
    assert!(
        bytes.chunks(CHUNK).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])),
        "a torn chunk"
    );
}
