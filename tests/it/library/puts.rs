//! `put`: one chunk into each of many streams, over one connection.

use std::time::Duration;

use harness::{Daemon, Transport};
use pfs_client::{
    Client, ErrorCode, Event, IfExists, PutOptions, ReadOptions, SlowPolicy, StreamPath,
    WriteOptions, blocking,
};

use super::{block_on, client, daemon, endpoint, path};

const BUFFER: u64 = 4096;

harness::per_transport! {
    a_thousand_streams_are_made_with_one_call_and_one_connection,
    a_put_into_a_closed_stream_is_refused_and_the_client_goes_on,
    a_refused_put_leaves_no_stream_that_it_made,
    a_put_waits_for_a_block_reader,
    a_chunk_of_any_size_that_the_stream_takes_can_be_put,
    a_thread_of_its_own_can_put,
}

fn job(number: usize) -> StreamPath {
    format!("/streamfs/job-{number}").parse().unwrap()
}

/// Reads all of a closed stream.
async fn contents(client: &Client, path: &StreamPath) -> Vec<u8> {
    let mut reader = client.reader(path, ReadOptions::default()).await.unwrap();
    let mut all = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            Event::Chunk(bytes) => all.extend_from_slice(&bytes),
            Event::End { .. } => return all,
            Event::Attached { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn a_thousand_streams_are_made_with_one_call_and_one_connection(transport: Transport) {
    const STREAMS: usize = 1000;
    let daemon = daemon(BUFFER);
    block_on(async {
        let client = client(&daemon, transport).await;
        let connections = client.info().await.unwrap().connections;
        let options = PutOptions::default().close(true);
        let puts = (0..STREAMS).map(|number| (job(number), format!("job {number}")));
        for (number, put) in client.put_all(puts, &options).await.unwrap().into_iter().enumerate() {
            let put = put.unwrap();
            assert_eq!((put.created, put.offset), (true, format!("job {number}").len() as u64));
        }
        // The same connection accepts any other request.
        assert_eq!(client.list("/streamfs").await.unwrap().len(), STREAMS);
        let stat = client.stat(job(999)).await.unwrap();
        assert_eq!(
            (stat.head, stat.chunks, stat.writers_finished, stat.writers_died),
            (7, 1, 1, 0)
        );
        // Over HTTP the client's connection pool may open another connection before it knows that
        // the first is free.
        let spare = u64::from(transport == Transport::Http);
        assert!(client.info().await.unwrap().connections <= connections + spare);
        assert_eq!(contents(&client, &job(500)).await, b"job 500");
    });
}

fn a_put_into_a_closed_stream_is_refused_and_the_client_goes_on(transport: Transport) {
    let daemon = daemon(BUFFER);
    block_on(async {
        let client = client(&daemon, transport).await;
        let closes = PutOptions::default().close(true);
        client.put(path(), "all", &closes).await.unwrap();
        let puts = [(path(), "more"), (job(1), "one"), (path(), "more"), (job(2), "two")];
        let results = client.put_all(puts, &PutOptions::default()).await.unwrap();
        let codes: Vec<_> =
            results.iter().map(|put| put.as_ref().err().and_then(|error| error.code())).collect();
        assert_eq!(codes, [Some(ErrorCode::Closed), None, Some(ErrorCode::Closed), None]);
        let fails = PutOptions::default().if_exists(IfExists::Fail);
        let error = client.put(path(), "anew", &fails).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::AlreadyExists));
        assert_eq!(contents(&client, &path()).await, b"all");
        let replaces = closes.if_exists(IfExists::Replace);
        assert!(client.put(path(), "anew", &replaces).await.unwrap().created);
        assert_eq!(contents(&client, &path()).await, b"anew");
    });
}

fn a_refused_put_leaves_no_stream_that_it_made(transport: Transport) {
    let daemon = daemon(BUFFER);
    block_on(async {
        let client = client(&daemon, transport).await;
        let large = vec![0; BUFFER as usize + 1];
        let error = client.put(job(1), &large, &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TooLarge));
        // More than one request holds, on any transport.
        let larger = vec![0; 2 * 1024 * 1024];
        let error = client.put(job(2), &larger, &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TooLarge));
        let bad = PutOptions::default().ttl(Duration::ZERO);
        let error = client.put(job(3), "x", &bad).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::BadOption));
        assert_eq!(client.list("/").await.unwrap().len(), 0);
    });
}

fn a_put_waits_for_a_block_reader(transport: Transport) {
    let daemon = daemon(BUFFER);
    block_on(async {
        let client = client(&daemon, transport).await;
        let options = PutOptions::default();
        client.put(path(), vec![1; 4096], &options).await.unwrap();
        let block = ReadOptions::default().policy(SlowPolicy::Block);
        let mut reader = client.reader(path(), block).await.unwrap();
        // The first puts may find room in a socket on the way to the reader; the last one finds
        // none until the reader reads.
        let puts = (0..1000).map(|_| (path(), vec![2; 4096]));
        let put_all = client.put_all(puts, &options);
        tokio::pin!(put_all);
        let other = self::client(&daemon, transport).await;
        let waits = async {
            while !other.stat(path()).await.unwrap().writers.iter().any(|writer| writer.waiting) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut put_all => panic!("nobody has read"),
            () = waits => {}
        }
        let reading = async {
            let mut bytes = 0;
            while bytes < 1001 * 4096 {
                match reader.next().await.unwrap() {
                    Event::Chunk(data) => bytes += data.len(),
                    Event::Attached { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let (results, ()) = tokio::join!(put_all, reading);
        assert!(results.unwrap().into_iter().all(|put| put.is_ok()));
    });
}

fn a_chunk_of_any_size_that_the_stream_takes_can_be_put(transport: Transport) {
    let daemon = Daemon::with_http();
    block_on(async {
        let client = client(&daemon, transport).await;
        let most = client.max_put();
        let mut head = 0;
        for size in [0, 1, most - 1, most, most + 1, 3 * 1024 * 1024] {
            let chunk = harness::noise(1, size);
            let put = client.put(path(), &chunk, &PutOptions::default()).await.unwrap();
            head += size as u64;
            assert_eq!((put.created, put.offset), (size == 0, if size == 0 { 0 } else { head }));
        }
        let stat = client.stat(path()).await.unwrap();
        assert_eq!((stat.chunks, stat.writers_finished, stat.writers_died), (5, 6, 0));
        // The stream accepts other writers.
        client.writer(path(), WriteOptions::default()).await.unwrap();
    });
}

fn a_thread_of_its_own_can_put(transport: Transport) {
    let daemon = daemon(BUFFER);
    let client =
        blocking::Client::new(endpoint(&daemon, transport)).with_shm(transport == Transport::Shm);
    let options = PutOptions::default();
    assert!(client.put(path(), "one", &options).unwrap().created);
    let results = client.put_all([(path(), "two"), (job(1), "three")], &options).unwrap();
    let offsets: Vec<_> = results.into_iter().map(|put| put.unwrap().offset).collect();
    assert_eq!(offsets, [6, 5]);
}
