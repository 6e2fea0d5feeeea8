//! Sessions that a protocol uses directly, without frames.

use std::{cell::Cell, time::Duration};

use pfs_host::{Batch, Caller, Checked, Edge, Grant, NotAppended, Owner, PageError, Permissions};
use pfs_proto::{ErrorCode, Peer, ReadOptions, SlowPolicy, Start, StreamEvent, StreamPath, Until};
use pfs_stream::{Read, Stream};
use tokio::{task::yield_now, time::Instant};

use crate::{CHUNK, chunk, daemon, path};

pub(crate) fn caller(grants: Option<Vec<Grant>>) -> Caller {
    let permissions = grants.map_or_else(Permissions::all, Permissions::from_grants);
    let (peer, owner) = (Peer::default(), Owner::Anonymous);
    Caller { peer, remote: None, owner, permissions, transport: "http" }
}

fn append(stream: &Stream, number: usize) {
    stream.writer().unwrap().try_append(chunk(number)).unwrap();
}

fn batch(chunks: &[&[u8]]) -> Batch {
    let mut batch = Batch::default();
    for chunk in chunks {
        batch.bytes.extend_from_slice(chunk);
        batch.ends.push(batch.bytes.len());
    }
    batch
}

#[tokio::test]
async fn a_caller_without_permission_learns_nothing_and_changes_nothing() {
    let (daemon, stream) = daemon();
    let prefix = |prefix: &str| prefix.parse().unwrap();
    let grant = |read, write| Grant { read, write, block: true, prefix: prefix("/streamfs/other") };
    let nobody = caller(Some(vec![grant(true, true)]));
    let missing: StreamPath = "/streamfs/missing".parse().unwrap();
    for path in [&path(), &missing] {
        assert_eq!(daemon.readable(&nobody, path).unwrap_err().code, ErrorCode::Denied);
        assert_eq!(daemon.writable(&nobody, path).unwrap_err().code, ErrorCode::Denied);
        assert_eq!(daemon.document(&nobody, path).unwrap_err().code, ErrorCode::Denied);
        assert_eq!(daemon.list(&nobody, path.as_str()).await.unwrap_err().code, ErrorCode::Denied);
        let prefix = path.as_str().parse().unwrap();
        assert_eq!(
            daemon.remove_below(&nobody, &prefix).await.unwrap_err().code,
            ErrorCode::Denied
        );
    }
    assert_eq!(daemon.totals(&nobody).unwrap_err().code, ErrorCode::Denied);
    assert!(stream.is_active());

    let grant = |read, write| Grant { read, write, block: false, prefix: prefix("/streamfs") };
    let reader = caller(Some(vec![grant(true, false)]));
    assert!(
        daemon.readable(&reader, &path()).is_ok() && daemon.writable(&reader, &path()).is_err()
    );
    let writer = caller(Some(vec![grant(false, true)]));
    assert!(
        daemon.readable(&writer, &path()).is_err() && daemon.writable(&writer, &path()).is_ok()
    );
}

#[tokio::test]
async fn every_way_to_attach_a_block_reader_requires_the_block_permission() {
    let (daemon, stream) = daemon();
    let grant =
        |block| Grant { read: true, write: true, block, prefix: "/streamfs".parse().unwrap() };
    let options = |policy| ReadOptions { policy, ..ReadOptions::default() };
    for (block, policy, allowed) in [
        (false, SlowPolicy::Block, false),
        (false, SlowPolicy::Drop, true),
        (false, SlowPolicy::Disconnect, true),
        (true, SlowPolicy::Block, true),
    ] {
        let caller = caller(Some(vec![grant(block)]));
        let place = daemon.readable(&caller, &path()).unwrap();
        let missing = daemon.readable(&caller, &"/streamfs/missing".parse().unwrap()).unwrap();
        let waits = ReadOptions { wait: true, ..options(policy) };
        let codes = [
            place.attach(options(policy)).await.err().map(|failure| failure.code),
            place.reader(&stream, options(policy)).err().map(|failure| failure.code),
            place
                .page(&stream, options(policy), Vec::new(), CHUNK)
                .err()
                .map(|failure| failure.code),
            tokio::select! {
                biased;
                attached = missing.attach(waits) => attached.err().map(|failure| failure.code),
                () = yield_now() => None,
            },
        ];
        let expected = (!allowed).then_some(ErrorCode::Denied);
        assert_eq!(codes, [expected; 4], "{block} {policy}");
        assert_eq!(stream.readers(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_for_a_chunk_no_longer_than_its_limit() {
    const LIMIT: Duration = Duration::from_secs(30);
    let (daemon, stream) = daemon();
    let caller = caller(None);
    let place = daemon.readable(&caller, &path()).unwrap();
    let begun = Instant::now();
    let mut page = place.page(&stream, ReadOptions::default(), Vec::new(), 2 * CHUNK).unwrap();
    assert_eq!(page.fill().unwrap(), Edge::Head);
    assert_eq!(page.wait(LIMIT).await.unwrap(), Edge::Head);
    assert_eq!(begun.elapsed(), LIMIT);

    let (edge, ()) = tokio::join!(page.wait(LIMIT), async { append(&stream, 0) });
    assert_eq!(edge.unwrap(), Edge::Head);
    append(&stream, 1);
    assert_eq!(page.fill().unwrap(), Edge::Full);
    let (start, bytes) = page.finish();
    assert_eq!((start, bytes), (0, [chunk(0), chunk(1)].concat()));
    assert_eq!((begun.elapsed(), stream.readers()), (LIMIT, 0));

    let mut page = place.page(&stream, ReadOptions::default(), Vec::new(), 4 * CHUNK).unwrap();
    assert_eq!(page.fill().unwrap(), Edge::Head);
    let (edge, ()) = tokio::join!(page.wait(LIMIT), async { daemon.shutdown().cancel() });
    assert!(
        matches!(edge, Err(PageError::Failed(failure)) if failure.code == ErrorCode::ShuttingDown)
    );
}

#[tokio::test]
async fn a_page_whose_start_is_overwritten_is_refused_unless_it_may_start_later() {
    let (daemon, stream) = daemon();
    let caller = caller(None);
    let place = daemon.readable(&caller, &path()).unwrap();
    let page = || {
        let options = ReadOptions { start: Start::Offset(0), ..ReadOptions::default() };
        place.page(&stream, options, Vec::new(), CHUNK).unwrap()
    };
    let (mut exact, mut any) = (page(), page().or_later());
    (0..10).for_each(|number| append(&stream, number));
    assert!(matches!(exact.fill(), Err(PageError::Dropped)));
    assert_eq!(any.fill().unwrap(), Edge::Full);
    let (start, bytes) = any.finish();
    assert_eq!(bytes, chunk(usize::try_from(start).unwrap() / CHUNK));
}

#[tokio::test(start_paused = true)]
async fn batches_of_one_stream_are_checked_in_turn_and_a_dropped_one_appends_nothing() {
    let (daemon, stream) = daemon();
    let caller = caller(None);
    let place = daemon.writable(&caller, &path()).unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut reader = stream.reader(options).unwrap();
    let chunks: Vec<_> = (0..4).map(chunk).collect();
    let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
    let checked = Cell::new(0);
    // The state counts batches, and a batch is accepted only if it is the next one.
    let append = |number: usize| {
        let (check, chunks) = (&checked, &chunks);
        place.append_batch(
            &stream,
            move |state: &usize| {
                check.set(check.get() + 1);
                if *state == number { Ok(Checked::Append(batch(chunks))) } else { Err(*state) }
            },
            |state: &mut usize| {
                *state += 1;
                *state
            },
        )
    };
    assert_eq!(append(0).await.unwrap(), 1);
    // There is no room for the second batch.
    let mut second = Box::pin(append(1));
    let mut third = Box::pin(append(1));
    tokio::select! {
        biased;
        _ = &mut second => panic!("the reader has read nothing"),
        _ = &mut third => panic!("the second batch has the state"),
        () = yield_now() => {}
    }
    assert_eq!(checked.get(), 2, "the third batch is not looked at");
    drop(second);
    assert_eq!(stream.stat().head, 4 * CHUNK as u64);

    let reading = async {
        let mut bytes = Vec::new();
        while bytes.len() < 8 * CHUNK {
            assert!(matches!(reader.read(&mut bytes, CHUNK).await.unwrap(), Read::Data { .. }));
        }
    };
    let (third, ()) = tokio::join!(third, reading);
    assert_eq!(third.unwrap(), 2);
    assert!(matches!(append(1).await, Err(NotAppended::Refused(2))));
    assert_eq!(stream.stat().head, 8 * CHUNK as u64);
}

#[tokio::test]
async fn a_watch_reports_readers_and_ends_with_the_daemon() {
    let (daemon, stream) = daemon();
    let caller = caller(None);
    let mut watch = daemon.readable(&caller, &path()).unwrap().watch().await.unwrap();
    let reader = stream.reader(ReadOptions::default()).unwrap();
    assert!(matches!(watch.next().await.unwrap(), Some(StreamEvent::Subscribed { .. })));
    drop(reader);
    daemon.shutdown().cancel();
    assert_eq!(watch.next().await.unwrap_err().code, ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn a_dropped_writer_counts_as_dead_except_during_a_shutdown() {
    let (daemon, stream) = daemon();
    let caller = caller(None);
    let place = daemon.writable(&caller, &path()).unwrap();
    let options = ReadOptions { until: Until::WritersGone, ..ReadOptions::default() };
    let mut reader = stream.reader(options).unwrap();
    drop(place.append(&stream).await.unwrap());
    assert_eq!(stream.stat().writers_died, 1);
    let dropped = place.append(&stream).await.unwrap();
    let abandoned = place.append(&stream).await.unwrap();
    let finished = place.append(&stream).await.unwrap();
    daemon.shutdown().cancel();
    drop(dropped);
    abandoned.abandon("its client went away");
    finished.finish(false);
    assert_eq!((stream.stat().writers_died, stream.stat().writers_finished), (1, 1));
    assert_eq!(
        reader.try_read(&mut Vec::new(), 1).unwrap(),
        None,
        "the session tells the reader that the daemon ends"
    );
}
