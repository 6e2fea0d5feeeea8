//! Streams, documents and limits, as clients see them.

use std::time::Duration;

use pfs_host::Settings;
use pfs_proto::{
    CreateOptions, End, ErrorCode, Hello, ReadOptions, Reply, Request, SlowPolicy, Start, Until,
    WriteOptions,
};
use pfs_stream::{Limits, StreamConfig};
use pfsd::Daemon;

use crate::harness::{Running, at, eventually, oldest};

#[tokio::test]
async fn a_reader_gets_history_then_live_then_the_end() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/cam").await;
    writer.append(b"history").await;
    writer.acked(1).await;

    let mut reader = running.client().await;
    let options =
        CreateOptions { content_type: Some("video/mp2t".to_owned()), ..CreateOptions::default() };
    let (code, _) = reader.refused(Request::Create(at("/streamfs/cam"), options)).await;
    assert_eq!(code, ErrorCode::AlreadyExists);
    let reading = reader.ask(Request::OpenReader(at("/streamfs/cam"), oldest())).await;
    assert_eq!(reading, Reply::Reading { start: 0, head: 7, content_type: None });
    assert_eq!(reader.reply().await, Some(Reply::Data(b"history".as_slice().into())));
    writer.append(b"live").await;
    assert_eq!(reader.reply().await, Some(Reply::Data(b"live".as_slice().into())));

    writer.send(&Request::Finish { close: true }).await;
    writer.acked(2).await;
    assert_eq!(writer.reply().await, Some(Reply::Done));
    assert_eq!(reader.reply().await, Some(Reply::End { reason: End::Closed, offset: 11 }));
    assert_eq!((reader.reply().await, writer.reply().await), (None, None));
    running.connections(0).await;
}

#[tokio::test]
async fn a_reader_that_leaves_is_noticed_even_if_nothing_is_sent() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/quiet").await;
    let mut reader = running.client().await;
    reader.read_from("/streamfs/quiet", oldest()).await;
    let mut waiting = running.client().await;
    let wait = ReadOptions { wait: true, ..oldest() };
    assert_eq!(waiting.ask(Request::OpenReader(at("/streamfs/none"), wait)).await, Reply::Waiting);
    running.connections(3).await;
    drop((reader, waiting));
    running.connections(1).await;
    assert_eq!(running.daemon.registry().get("/streamfs/quiet").unwrap().readers(), 0);
}

#[tokio::test]
async fn a_waiting_reader_is_attached_before_the_first_byte() {
    let running = Running::start();
    let mut reader = running.client().await;
    let options = ReadOptions { start: Start::New, wait: true, ..oldest() };
    assert_eq!(
        reader.ask(Request::OpenReader(at("/streamfs/late"), options)).await,
        Reply::Waiting
    );
    assert!(running.daemon.registry().is_empty(), "a reader does not create a stream");
    let mut writer = running.client().await;
    writer.write_to("/streamfs/late").await;
    writer.append(b"first").await;
    assert!(matches!(reader.reply().await, Some(Reply::Reading { start: 0, head: 0, .. })));
    assert_eq!(reader.reply().await, Some(Reply::Data(b"first".as_slice().into())));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_daemon_keeps_no_bytes_for_readers_that_have_left() {
    const CHUNK: usize = 1024 * 1024;
    const VISITORS: u64 = 200;
    let running = Running::start();
    let stream =
        running.daemon.registry().create("/streamfs/big", StreamConfig::default()).unwrap();
    stream.writer().unwrap().try_append(vec![7; CHUNK]).unwrap();
    let mut idle = [running.client().await, running.client().await];
    for reader in &mut idle {
        reader.read_from("/streamfs/big", ReadOptions { start: Start::New, ..oldest() }).await;
    }
    let before = memory();
    for offset in 1..=VISITORS {
        let mut reader = running.client().await;
        reader
            .read_from("/streamfs/big", ReadOptions { start: Start::Offset(offset), ..oldest() })
            .await;
        let mut len = 0;
        loop {
            match reader.reply().await {
                Some(Reply::DataPart(part)) => len += part.len(),
                Some(Reply::Data(last)) => break len += last.len(),
                other => panic!("no chunk: {other:?}"),
            }
        }
        assert_eq!(len, CHUNK - usize::try_from(offset).unwrap());
    }
    running.connections(2).await;
    let (after, all) = (memory(), VISITORS * CHUNK as u64);
    assert!(after < before + all / 4, "the daemon grew from {before} to {after}; {all} were read");
}

/// Returns the resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_lost_range_is_reported_to_the_byte() {
    let running = Running::start();
    let mut client = running.client().await;
    let sizes = CreateOptions {
        ring_buffer_size: Some(4096),
        channel_buffer_size: Some(4096),
        ..CreateOptions::default()
    };
    assert_eq!(client.ask(Request::Create(at("/streamfs/small"), sizes)).await, Reply::Done);
    client.write_to("/streamfs/small").await;
    for _ in 0..40 {
        client.append(&[7; 300]).await;
    }
    client.acked(40).await;
    let mut reader = running.client().await;
    let options = ReadOptions { start: Start::Offset(0), until: Until::CaughtUp, ..oldest() };
    reader.read_from("/streamfs/small", options).await;
    let Some(Reply::Gap { from: 0, to, .. }) = reader.reply().await else { panic!("no gap") };
    let mut position = to;
    loop {
        match reader.reply().await {
            Some(Reply::Data(bytes)) => position += bytes.len() as u64,
            Some(Reply::End { reason: End::CaughtUp, offset }) => {
                assert_eq!((position, offset), (12_000, 12_000));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_removed_stream_is_an_error_and_not_an_end() {
    let running = Running::start();
    let mut client = running.client().await;
    assert_eq!(
        client.ask(Request::Create(at("/streamfs/a"), CreateOptions::default())).await,
        Reply::Done
    );
    let mut reader = running.client().await;
    reader.read_from("/streamfs/a", oldest()).await;
    let mut writer = running.client().await;
    writer.write_to("/streamfs/a").await;
    assert_eq!(client.ask(Request::Remove(at("/streamfs/a"))).await, Reply::Done);
    reader.refused_for_good(ErrorCode::Removed).await;
    writer.refused_for_good(ErrorCode::Removed).await;
    assert_eq!(client.refused(Request::Remove(at("/streamfs/a"))).await.0, ErrorCode::NoSuchStream);
}

#[tokio::test]
async fn a_stream_is_removed_when_its_time_to_live_is_over() {
    let running = Running::start();
    let mut client = running.client().await;
    for (name, seconds) in [("/streamfs/long", 3600.0), ("/streamfs/short", 0.05)] {
        let options = CreateOptions {
            ttl: Some(Duration::from_secs_f64(seconds)),
            ..CreateOptions::default()
        };
        assert_eq!(client.ask(Request::Create(at(name), options)).await, Reply::Done);
    }
    let mut reader = running.client().await;
    let left = ReadOptions { wait: true, ..oldest() };
    reader.send(&Request::OpenReader(at("/streamfs/short"), left)).await;
    eventually(async || running.daemon.registry().len() == 1).await;
    assert!(running.daemon.registry().get("/streamfs/long").is_some());
}

#[tokio::test]
async fn a_document_is_not_a_stream_and_a_stream_is_not_a_document() {
    let running = Running::start();
    let mut client = running.client().await;
    let readme = || at("/streamfs/README");
    match client.ask(Request::Document(readme())).await {
        Reply::Document(text) => assert!(text.starts_with(b"pfs - live byte streams")),
        other => panic!("{other:?}"),
    }
    for request in [
        Request::Create(readme(), CreateOptions::default()),
        Request::Stat(readme()),
        Request::Close(readme()),
        Request::Remove(readme()),
        Request::List("/streamfs/README".to_owned()),
    ] {
        assert_eq!(client.refused(request.clone()).await.0, ErrorCode::IsDocument, "{request:?}");
    }
    let open = [
        Request::OpenWriter(readme(), WriteOptions::default()),
        Request::OpenReader(readme(), oldest()),
    ];
    for request in open {
        let mut opening = running.client().await;
        opening.send(&request).await;
        opening.refused_for_good(ErrorCode::IsDocument).await;
    }

    assert_eq!(
        client.refused(Request::Document(at("/streamfs/cam"))).await.0,
        ErrorCode::NoSuchStream
    );
    assert_eq!(
        client.ask(Request::Create(at("/streamfs/cam"), CreateOptions::default())).await,
        Reply::Done
    );
    let (code, message) = client.refused(Request::Document(at("/streamfs/cam"))).await;
    assert_eq!(code, ErrorCode::IsStream);
    assert_eq!(message, "use stream mode: pfs cat --stream /streamfs/cam");
}

#[tokio::test]
async fn a_listing_is_sorted_and_has_the_streams_at_or_below_a_path() {
    let running = Running::start();
    let mut client = running.client().await;
    for path in ["/streamfs/b", "/streamfs/a/2", "/streamfs/a/1", "/streamfs/ab"] {
        assert_eq!(
            client.ask(Request::Create(at(path), CreateOptions::default())).await,
            Reply::Done
        );
    }
    for (prefix, expected) in [
        ("/", &["/streamfs/a/1", "/streamfs/a/2", "/streamfs/ab", "/streamfs/b"][..]),
        ("/streamfs/", &["/streamfs/a/1", "/streamfs/a/2", "/streamfs/ab", "/streamfs/b"]),
        ("/streamfs/a", &["/streamfs/a/1", "/streamfs/a/2"]),
        ("/streamfs/b", &["/streamfs/b"]),
    ] {
        client.send(&Request::List(prefix.to_owned())).await;
        let mut listed = Vec::new();
        while let Some(Reply::Summary(summary)) = client.reply().await {
            listed.push(summary.path);
        }
        assert_eq!(listed, expected, "{prefix}");
    }
    for (prefix, code) in
        [("/streamfs/none", ErrorCode::NoSuchStream), ("/memfs", ErrorCode::BadPath)]
    {
        assert_eq!(client.refused(Request::List(prefix.to_owned())).await.0, code, "{prefix}");
    }
}

#[tokio::test]
async fn a_stat_lists_the_attached_writers_and_readers() {
    let running = Running::start();
    let mut writer = running.client().await;
    writer.write_to("/streamfs/cam").await;
    writer.append(b"12345").await;
    writer.acked(1).await;
    let mut reader = running.client().await;
    reader.read_from("/streamfs/cam", ReadOptions { policy: SlowPolicy::Block, ..oldest() }).await;

    let mut client = running.client().await;
    client.send(&Request::Stat(at("/streamfs/cam"))).await;
    let Some(Reply::Stat(stat)) = client.reply().await else { panic!("no stat") };
    assert_eq!((stat.head, stat.chunks), (5, 1));
    let Some(Reply::WriterStat(writer)) = client.reply().await else { panic!("no writer") };
    assert_eq!((writer.peer.pid, writer.bytes), (Some(std::process::id()), 5));
    let Some(Reply::ReaderStat(reader)) = client.reply().await else { panic!("no reader") };
    assert_eq!((reader.peer.pid, reader.policy), (Some(std::process::id()), SlowPolicy::Block));
    assert_eq!(client.reply().await, Some(Reply::Done));
}

#[tokio::test]
async fn a_create_beyond_a_limit_fails_and_does_not_disturb_existing_streams() {
    let limits = Limits { max_streams: 2, max_memory: 32 * 1024 * 1024 };
    let running = Running::with(Daemon::new(&Settings { limits, ..Settings::default() }));
    let mut writer = running.client().await;
    writer.write_to("/streamfs/running").await;

    let mut client = running.client().await;
    let huge = CreateOptions::default().ring_buffer_size(64 * 1024 * 1024).reserve(true);
    let (code, message) = client.refused(Request::Create(at("/streamfs/huge"), huge)).await;
    assert_eq!(code, ErrorCode::Limit);
    assert!(message.contains("limits.max_memory"), "{message}");
    assert_eq!(
        client.ask(Request::Create(at("/streamfs/second"), CreateOptions::default())).await,
        Reply::Done
    );
    let (code, message) =
        client.refused(Request::Create(at("/streamfs/third"), CreateOptions::default())).await;
    assert_eq!(code, ErrorCode::Limit);
    assert!(message.contains("limits.max_streams"), "{message}");

    writer.append(b"goes on").await;
    writer.acked(1).await;
}

#[tokio::test]
async fn bad_options_are_refused_and_create_nothing() {
    let running = Running::start();
    let mut client = running.client().await;
    let none = CreateOptions::default;
    for options in [
        CreateOptions { ring_buffer_size: Some(0), ..none() },
        CreateOptions { channel_buffer_size: Some(u64::MAX), ..none() },
        CreateOptions { ttl: Some(Duration::ZERO), ..none() },
        CreateOptions { content_type: Some("x".repeat(256)), ..none() },
        CreateOptions { content_type: Some("text/plain\nSet-Cookie: x".to_owned()), ..none() },
    ] {
        let (code, message) =
            client.refused(Request::Create(at("/streamfs/a"), options.clone())).await;
        assert_eq!(code, ErrorCode::BadOption, "{options:?}: {message}");
    }
    assert!(running.daemon.registry().is_empty());
    let mut reader = running.client().await;
    reader.send(&Request::OpenReader(at("/streamfs/none"), oldest())).await;
    reader.refused_for_good(ErrorCode::NoSuchStream).await;
    assert_eq!(client.ask(Request::Create(at("/streamfs/a"), none())).await, Reply::Done);
    let past = ReadOptions { start: Start::Offset(1), ..oldest() };
    client.send(&Request::OpenReader(at("/streamfs/a"), past)).await;
    client.refused_for_good(ErrorCode::PastHead).await;
}

#[tokio::test(start_paused = true)]
#[cfg(target_os = "linux")]
async fn a_removed_stream_that_a_client_maps_is_charged_to_its_creator_until_the_client_has_left() {
    let user_quota = Limits { max_streams: 1, ..Limits::UNLIMITED };
    let running = Running::with(Daemon::new(&Settings { user_quota, ..Settings::default() }));
    let create = |path| Request::Create(at(path), CreateOptions::default());
    let mut client = running.client().await;
    assert_eq!(client.ask(create("/streamfs/a")).await, Reply::Done);
    let mut reader = running.stranger().await;
    assert!(matches!(reader.peer.greet(Hello::SHM).await, Some(Reply::Hello(_))));
    let reading = reader.ask(Request::OpenReader(at("/streamfs/a"), oldest())).await;
    assert!(matches!(reading, Reply::Shm(_)), "{reading:?}");

    // The daemon hangs up on the reader after a second, and the clock does not advance while a
    // request is in flight.
    client.send_together(&[Request::Remove(at("/streamfs/a")), create("/streamfs/b")]).await;
    assert_eq!(client.reply().await, Some(Reply::Done));
    let (code, message) = client.error().await;
    assert_eq!(code, ErrorCode::Limit);
    assert!(message.contains("1 of the 1 streams that the quota allows"), "{message}");
    eventually(async || client.ask(create("/streamfs/b")).await == Reply::Done).await;
    drop(reader);
}
