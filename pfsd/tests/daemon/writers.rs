//! Writers: long chunks, acknowledgements, waiting for readers and room, disconnecting.

use std::time::Duration;

use bytes::BytesMut;
use pfs_proto::{End, ErrorCode, ReadOptions, Reply, Request, SlowPolicy, Until, WriteOptions};
use pfs_stream::{Stream, StreamConfig};

use tokio::io::AsyncWriteExt;

use crate::harness::{Client, Running, at, eventually, oldest, patiently};

#[tokio::test]
async fn a_chunk_of_several_frames_arrives_as_one() {
    let running = Running::start();
    let chunk: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/long").await;
    for part in chunk.chunks(1024 * 1024).take(2) {
        writer.send(&Request::AppendPart(part.to_vec().into())).await;
    }
    writer.send(&Request::Append(chunk[2 * 1024 * 1024..].to_vec().into())).await;
    writer.acked(1).await;
    assert_eq!(running.daemon.registry().get("/streamfs/long").unwrap().stat().chunks, 1);

    let mut reader = running.client().await;
    reader.read_from("/streamfs/long", oldest()).await;
    let mut got = Vec::new();
    loop {
        match reader.reply().await {
            Some(Reply::DataPart(bytes)) => got.extend_from_slice(&bytes),
            Some(Reply::Data(bytes)) => {
                got.extend_from_slice(&bytes);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got == chunk);
}

#[tokio::test]
async fn a_chunk_too_large_is_refused_before_it_is_complete_and_earlier_ones_are_acknowledged() {
    let running = Running::start();
    let sizes = StreamConfig { ring_buffer_size: 1024 * 1024, ..StreamConfig::default() };
    running.daemon.registry().create("/streamfs/a", sizes).unwrap();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let long = Request::AppendPart(vec![0; 1024 * 1024].into());
    let rest = Request::AppendPart(vec![0; 1].into());
    writer.send_together(&[Request::Append(b"small".as_slice().into()), long, rest]).await;
    writer.acked(1).await;
    let message = writer.refused_for_good(ErrorCode::TooLarge).await;
    assert!(message.contains("1048577") && message.contains("1048576"), "{message}");
    assert_eq!(running.daemon.registry().get("/streamfs/a").unwrap().stat().head, 5);
}

#[tokio::test]
async fn a_writer_that_reads_no_acknowledgements_can_append_everything() {
    const CHUNKS: u64 = 300_000;
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/deaf").await;
    let frames: Vec<u8> = [1, 0, 0, 0, 0x10, b'x'].repeat(usize::try_from(CHUNKS).unwrap());
    // With one acknowledgement per chunk, this would be more than a socket's buffer holds.
    for part in frames.chunks(999) {
        writer.send_bytes(part).await;
    }
    let stream = running.daemon.registry().get("/streamfs/deaf").unwrap();
    eventually(async || stream.stat().head == CHUNKS).await;
    writer.send(&Request::Finish { close: false }).await;
    writer.acked(CHUNKS).await;
    assert_eq!(writer.reply().await, Some(Reply::Done));
    let stat = stream.stat();
    assert_eq!((stat.writers_finished, stat.writers_died), (1, 0));
}

#[tokio::test]
async fn chunks_are_acknowledged_before_the_finish_or_error_that_arrived_with_them() {
    let running = Running::start();
    let chunk = || Request::Append(b"12345".as_slice().into());
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    writer.send_together(&[chunk(), chunk(), Request::Finish { close: false }]).await;
    assert_eq!(writer.reply().await, Some(Reply::Ack { chunks: 2, offset: 10, readers: 0 }));
    assert_eq!(writer.reply().await, Some(Reply::Done));

    let mut broken = running.client().await;
    broken.write_to("/streamfs/a").await;
    broken.send_together(&[chunk(), Request::Info]).await;
    assert_eq!(broken.reply().await, Some(Reply::Ack { chunks: 1, offset: 15, readers: 0 }));
    broken.refused_for_good(ErrorCode::Protocol).await;
}

#[tokio::test]
async fn sent_chunks_are_appended_even_if_the_writer_left_before_the_acknowledgement() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let chunks = std::iter::repeat_with(|| Request::Append(vec![7; 1000].into())).take(100);
    writer
        .send_together(&chunks.chain([Request::Finish { close: true }]).collect::<Vec<_>>())
        .await;
    drop(writer);
    let stream = running.daemon.registry().get("/streamfs/a").unwrap();
    eventually(async || stream.stat().writers.is_empty()).await;
    let stat = stream.stat();
    assert_eq!((stat.head, stat.writers_finished, stat.writers_died), (100_000, 1, 0));
}

#[tokio::test]
async fn an_acknowledgement_has_the_number_of_attached_readers() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let mut reader = running.client().await;
    reader.read_from("/streamfs/a", oldest()).await;
    writer.append(b"12345").await;
    assert_eq!(writer.reply().await, Some(Reply::Ack { chunks: 1, offset: 5, readers: 1 }));
    drop(reader);
    let stream = running.daemon.registry().get("/streamfs/a").unwrap();
    eventually(async || stream.readers() == 0).await;
    writer.append(b"12345").await;
    assert_eq!(writer.reply().await, Some(Reply::Ack { chunks: 2, offset: 10, readers: 0 }));
}

#[tokio::test]
async fn a_writer_waits_until_its_readers_are_attached() {
    let running = Running::start();
    let mut writer = running.client().await;
    let two = WriteOptions { wait_readers: 2, ..WriteOptions::default() };
    writer.send(&Request::OpenWriter(at("/streamfs/a"), two)).await;
    let mut first = running.client().await;
    eventually(async || running.daemon.registry().len() == 1).await;
    first.read_from("/streamfs/a", oldest()).await;
    // The answer proves that everything requested before has been answered too.
    running.connections(2).await;
    assert_eq!(running.daemon.registry().get("/streamfs/a").unwrap().stat().writers, []);
    let mut second = running.client().await;
    second.read_from("/streamfs/a", oldest()).await;
    assert!(matches!(writer.reply().await, Some(Reply::Writing { .. })));
}

#[tokio::test]
async fn a_writer_that_leaves_while_it_waits_for_readers_does_not_count_as_dead() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer
        .send(&Request::OpenWriter(
            at("/streamfs/a"),
            WriteOptions { wait_readers: 1, ..WriteOptions::default() },
        ))
        .await;
    eventually(async || running.daemon.registry().len() == 1).await;
    drop(writer);
    running.connections(0).await;
    assert_eq!(running.daemon.registry().get("/streamfs/a").unwrap().stat().writers_died, 0);
}

#[tokio::test]
async fn a_writer_that_disconnects_without_finishing_counts_as_dead() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    let mut reader = running.client().await;
    reader.read_from("/streamfs/a", ReadOptions { until: Until::WritersGone, ..oldest() }).await;
    writer.append(b"whole").await;
    writer.send(&Request::AppendPart(b"half a chunk".as_slice().into())).await;
    drop(writer);
    assert_eq!(reader.reply().await, Some(Reply::Data(b"whole".as_slice().into())));
    assert_eq!(reader.reply().await, Some(Reply::End { reason: End::WriterDied, offset: 5 }));
}

#[tokio::test]
async fn an_idle_writer_is_told_when_its_stream_is_closed_removed_or_expires() {
    const HOUR: Duration = Duration::from_secs(3600);
    let running = Running::start();
    let registry = running.daemon.registry();
    let expire = || drop(registry.expire(2 * HOUR));
    let close = || registry.get("/streamfs/a").unwrap().close();
    let remove = || assert!(registry.remove("/streamfs/a"));
    let ends: [(&dyn Fn(), _); 3] =
        [(&close, ErrorCode::Closed), (&remove, ErrorCode::Removed), (&expire, ErrorCode::Removed)];
    for (end, code) in ends {
        registry.remove("/streamfs/a");
        registry
            .create("/streamfs/a", StreamConfig { ttl: Some(HOUR), ..StreamConfig::default() })
            .unwrap();
        let mut writer = running.client().await;
        writer.write_to("/streamfs/a").await;
        writer.append(b"whole").await;
        writer.acked(1).await;
        writer.send(&Request::AppendPart(b"half a chunk".as_slice().into())).await;
        end();
        let message = writer.refused_for_good(code).await;
        assert!(message.starts_with("cannot append to /streamfs/a: "), "{message}");
    }
}

#[tokio::test]
async fn a_writer_that_waits_for_room_is_told_when_its_stream_is_closed_or_removed() {
    for (end, code) in
        [(Stream::close as fn(&Stream), ErrorCode::Closed), (Stream::remove, ErrorCode::Removed)]
    {
        let running = Running::start();
        let (stream, _reader, mut writer) = stuck(&running).await;
        writer.acked(8).await;
        end(&stream);
        writer.refused_for_good(code).await;
    }
}

/// Creates a stream of 4096 bytes that a `block` reader keeps full, and a writer whose 9th chunk
/// waits.
async fn stuck(
    running: &Running,
) -> (pfs_stream::Stream, pfs_stream::Reader, crate::harness::Client) {
    let sizes = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        ..StreamConfig::default()
    };
    let stream = running.daemon.registry().create("/streamfs/full", sizes).unwrap();
    let slow = ReadOptions { policy: SlowPolicy::Block, ..oldest() };
    let reader = stream.reader(slow).unwrap();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/full").await;
    for _ in 0..10 {
        writer.append(&[1; 512]).await;
    }
    let watched = stream.clone();
    eventually(async || watched.stat().writers.first().is_some_and(|writer| writer.waiting)).await;
    (stream, reader, writer)
}

#[tokio::test]
async fn a_block_reader_makes_the_writer_wait_and_loses_nothing() {
    let running = Running::start();
    let (stream, mut reader, mut writer) = stuck(&running).await;
    // Appended chunks are acknowledged while the rest waits.
    writer.acked(8).await;
    assert_eq!(stream.stat().head, 4096);
    let mut bytes = Vec::new();
    while bytes.len() < 5120 {
        patiently(reader.read(&mut bytes, 100)).await.unwrap();
    }
    writer.acked(10).await;
    assert_eq!(reader.lost_bytes(), 0);
}

#[tokio::test]
async fn a_writer_that_dies_while_its_chunk_waits_appends_no_part_of_it() {
    let running = Running::start();
    let (stream, mut reader, writer) = stuck(&running).await;
    drop(writer);
    running.connections(0).await;
    assert_eq!(stream.stat().writers_died, 1);
    let mut bytes = Vec::new();
    patiently(reader.read(&mut bytes, 10_000)).await.unwrap();
    assert_eq!(stream.stat().head, 4096);
    // The room is available to other writers.
    let mut next = running.client().await;
    next.write_to("/streamfs/full").await;
    next.append(b"next").await;
    next.acked(1).await;
}

#[tokio::test]
async fn a_writer_that_has_shut_down_only_its_sending_side_is_still_served() {
    let running = Running::start();
    let (stream, mut reader, mut writer) = stuck(&running).await;
    writer.send(&Request::Finish { close: true }).await;
    writer.peer.transport.shutdown().await.unwrap();
    // By the time that the daemon has answered others, it has noticed.
    running.connections(1).await;
    let mut bytes = Vec::new();
    while bytes.len() < 5120 {
        patiently(reader.read(&mut bytes, 100)).await.unwrap();
    }
    writer.acked(10).await;
    assert_eq!(writer.reply().await, Some(Reply::Done));
    assert_eq!(stream.stat().writers_finished, 1);
}

#[tokio::test]
async fn a_withdrawn_writer_does_not_count_as_dead_and_its_unused_stream_is_removed() {
    let running = Running::start();
    let (path, registry) = ("/streamfs/a", running.daemon.registry());
    let withdraws = async |mut writer: Client| {
        assert_eq!(writer.ask(Request::Withdraw).await, Reply::Done);
    };
    let writer = async || {
        let mut writer = running.client().await;
        writer.write_to(path).await;
        writer
    };
    withdraws(writer().await).await;
    assert!(registry.get(path).is_none(), "no other client knew the stream");

    registry.create(path, StreamConfig::default()).unwrap();
    withdraws(writer().await).await;
    assert!(registry.remove(path), "the stream was not created for the writer");

    let first = writer().await;
    withdraws(writer().await).await;
    let mut reader = running.client().await;
    reader.read_from(path, ReadOptions { until: Until::WritersGone, ..oldest() }).await;
    withdraws(first).await;
    assert_eq!(reader.reply().await, Some(Reply::End { reason: End::WritersGone, offset: 0 }));
    let stat = registry.get(path).expect("a reader knew the stream").stat();
    assert_eq!((stat.writers_finished, stat.writers_died), (2, 0));

    let mut late = writer().await;
    late.append(b"12345").await;
    late.acked(1).await;
    late.send(&Request::Withdraw).await;
    late.refused_for_good(ErrorCode::Protocol).await;
}

#[tokio::test]
async fn an_unfinished_chunk_is_charged_while_it_is_kept_and_refused_when_there_is_no_memory_for_it()
 {
    let running = Running::start();
    let arriving = running.daemon.arriving();
    let part = || Request::AppendPart(vec![7; 1024 * 1024].into());
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    writer.send_together(&[part(), part()]).await;
    eventually(async || arriving.used() == 2 * 1024 * 1024).await;
    // An incomplete frame counts as a part too.
    let mut frame = BytesMut::new();
    part().encode(&mut frame);
    writer.send_bytes(&frame[..1 << 19]).await;
    eventually(async || arriving.used() == (2 * 1024 * 1024) + (1 << 19)).await;
    writer.send_bytes(&frame[1 << 19..]).await;
    writer.append(b"end").await;
    writer.acked(1).await;
    eventually(async || arriving.used() == 0).await;

    let others = arriving.reserve(arriving.limit() - (1024 * 1024)).unwrap();
    let mut refused = running.client().await;
    refused.write_to("/streamfs/a").await;
    refused.send_together(&[part(), part()]).await;
    let message = refused.refused_for_good(ErrorCode::Limit).await;
    assert!(message.contains("limits.max_memory"), "{message}");
    eventually(async || arriving.used() == others.bytes()).await;
    drop(others);
    writer.send(&part()).await;
    eventually(async || arriving.used() == 1024 * 1024).await;
    drop(writer);
    eventually(async || arriving.used() == 0).await;
}
