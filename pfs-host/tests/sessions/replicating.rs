//! Links: what a daemon tells one that replicates its stream.

use std::{sync::Arc, time::Duration};

use pfs_host::Daemon;
use pfs_proto::{Hello, ReadOptions, Reply, Request, Start, Writers};
use pfs_stream::{Stream, StreamConfig};

use super::{
    CHUNK, chunk, daemon,
    link::{Far, connect},
    path,
};

async fn linked(daemon: &Arc<Daemon>, options: ReadOptions) -> Far {
    let mut far = connect::<true>(daemon, 64 * 1024);
    let greeting = far.greet(Hello::LINKING).await;
    assert!(matches!(greeting, Some(Reply::Hello(hello)) if hello.can_link()));
    far.send(&Request::OpenLink(path(), options)).await;
    far
}

/// Checks the replies up to `Reading`. Returns the offset where the link starts.
async fn start(far: &mut Far, stream: &Stream) -> u64 {
    let Some(Reply::Identity { identity, .. }) = far.reply().await else { panic!("no identity") };
    assert_eq!(identity, stream.identity());
    let Some(Reply::Origin(origin)) = far.reply().await else { panic!("no origin") };
    // Times have microseconds on the wire.
    let after = stream.created().duration_since(origin.created).unwrap();
    assert!(after < Duration::from_micros(1) && origin.ring_buffer_size == 4096);
    assert!(origin.format.is_empty() && origin.header.is_empty());
    let writers = far.reply().await;
    assert!(matches!(writers, Some(Reply::Writers(Writers { attached: 1, died: 0, .. }))));
    let Some(Reply::Reading { start, .. }) = far.reply().await else { panic!("not attached") };
    start
}

#[tokio::test(start_paused = true)]
async fn a_link_is_told_when_each_chunk_was_appended_and_of_the_writers_at_head() {
    let (daemon, stream) = daemon();
    let mut writer = stream.writer().unwrap();
    writer.try_append(chunk(1)).unwrap();
    let appended = stream.appended_at(0).unwrap();
    let mut far = linked(&daemon, ReadOptions::default()).await;
    assert_eq!(start(&mut far, &stream).await, 0);
    assert_eq!(far.reply().await, Some(Reply::AppendedAt(appended)));
    assert_eq!(far.reply().await, Some(Reply::Data(chunk(1).into())));
    let writers = Writers { attached: 1, were_any: true, ..Writers::default() };
    assert_eq!(far.reply().await, Some(Reply::Writers(writers)));
    drop(writer);
    let gone = Writers { attached: 0, died: 1, ..writers };
    assert_eq!(far.reply().await, Some(Reply::Writers(gone)));
    stream.close();
    assert!(matches!(far.reply().await, Some(Reply::End { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_link_begins_where_it_is_told_to_and_is_told_what_is_gone() {
    let (daemon, stream) = daemon();
    let mut writer = stream.writer().unwrap();
    for number in 0..10 {
        writer.try_append(chunk(number)).unwrap();
    }
    let options = ReadOptions::default().start(Start::Offset(CHUNK as u64));
    let mut far = linked(&daemon, options).await;
    assert_eq!(start(&mut far, &stream).await, CHUNK as u64);
    let tail = stream.extent().tail;
    let gap = Reply::Gap { from: CHUNK as u64, to: tail, chunks: 0 };
    assert_eq!(far.reply().await, Some(gap));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_no_link_cannot_open_one() {
    let (daemon, _stream) = daemon();
    let mut far = super::greeted(&daemon, 64 * 1024).await;
    far.send(&Request::OpenLink(path(), ReadOptions::default())).await;
    assert!(matches!(far.reply().await, Some(Reply::Error { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_behind_is_told_how_far() {
    let (daemon, stream) = daemon();
    let mut writer = stream.writer().unwrap();
    // More than one read sends.
    let chunks = 100;
    let large = StreamConfig { ring_buffer_size: 1 << 20, ..StreamConfig::default() };
    let many = daemon.registry().create("/streamfs/many", large).unwrap();
    let mut writer_of_many = many.writer().unwrap();
    for number in 0..chunks {
        writer_of_many.try_append(chunk(number)).unwrap();
    }
    let head = many.extent().head;
    let mut far = connect::<true>(&daemon, 64 * 1024);
    far.greet(Hello::LINKING).await;
    let path = "/streamfs/many".parse().unwrap();
    far.send(&Request::OpenLink(path, ReadOptions::default())).await;
    let (mut received, mut told) = (0, Vec::new());
    while received < head {
        match far.reply().await.unwrap() {
            Reply::Data(data) => received += data.len() as u64,
            Reply::Head(head) => told.push((received, head)),
            _ => {}
        }
    }
    assert!(told.iter().all(|(received, told)| received < told && *told == head), "{told:?}");
    assert!(!told.is_empty());
    // A link at head is told nothing.
    let mut near = linked(&daemon, ReadOptions::default()).await;
    start(&mut near, &stream).await;
    writer.try_append(chunk(1)).unwrap();
    stream.close();
    loop {
        match near.reply().await.unwrap() {
            Reply::Head(head) => panic!("told {head}"),
            Reply::End { .. } => break,
            _ => {}
        }
    }
}
