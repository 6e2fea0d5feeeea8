//! Appends that wait for a `block` reader when their client disconnects.

use std::time::Duration;

use pfs_proto::{Hello, ReadOptions, Request, SlowPolicy, Until, WriteOptions};
use pfs_stream::{Departure, Read, Reader, Stream};
use tokio::time::sleep;

use super::{
    S, Served,
    frames::{PLACE, TYPE, said},
};

/// Size of the chunk that fills the ring, and of the chunk that waits for room.
const SIZE: usize = 4000;

/// How long a chunk of a disconnected client waits for room.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter than any time limit. On a paused clock, everything that can happen has happened before
/// this time is over.
const MOMENT: Duration = Duration::from_millis(1);

const PATHS: [(&str, &str); 3] =
    [("PUT", S), ("POST", "/v1/stream/s"), ("PUT", "/api/v1/files?path=/streamfs/s")];

/// Creates a stream whose ring a `block` reader keeps full.
fn full(served: &Served) -> (Stream, Reader) {
    let stream = served.create(4096);
    let options = ReadOptions {
        policy: SlowPolicy::Block,
        until: Until::WritersGone,
        ..ReadOptions::default()
    };
    let reader = stream.reader(options).unwrap();
    let mut writer = stream.writer().unwrap();
    writer.try_append(&[1; SIZE]).unwrap();
    writer.depart_as(Departure::Finished);
    (stream, reader)
}

/// Waits until the writer waits for the reader.
async fn waits(stream: &Stream) {
    while !stream.stat().writers.iter().any(|writer| writer.waiting) {
        sleep(MOMENT).await;
    }
}

/// Reads until no writer is left, and returns all bytes.
async fn rest(reader: &mut Reader) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        match reader.read(&mut got, SIZE).await.unwrap() {
            Read::Data { .. } => {}
            Read::End(_) => return got,
            gap @ Read::Gap { .. } => panic!("{gap:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_waits_for_room_is_appended_although_its_client_has_gone() {
    for (method, path) in PATHS {
        let served = Served::new();
        let (stream, mut reader) = full(&served);
        let mut client = served.connect();
        client
            .request(
                method,
                path,
                &[("content-type", "application/octet-stream")],
                Some(&[2; SIZE]),
            )
            .await;
        waits(&stream).await;
        drop(client);
        sleep(TIMEOUT - MOMENT).await;
        assert_eq!(stream.stat().writers.len(), 1, "{path}");
        let got = rest(&mut reader).await;
        assert!(got == [[1; SIZE], [2; SIZE]].concat(), "{path}: {} bytes", got.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_has_gone_is_given_up_if_it_gets_no_room() {
    for (method, path) in PATHS {
        let served = Served::new();
        let (stream, _reader) = full(&served);
        let mut client = served.connect();
        client
            .request(
                method,
                path,
                &[("content-type", "application/octet-stream")],
                Some(&[2; SIZE]),
            )
            .await;
        waits(&stream).await;
        drop(client);
        sleep(TIMEOUT - MOMENT).await;
        assert_eq!(stream.stat().writers.len(), 1, "{path}");
        sleep(2 * MOMENT).await;
        let stat = stream.stat();
        assert_eq!(
            (stat.writers.len(), stat.head, stat.writers_died),
            (0, SIZE as u64, 1),
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stays_is_never_given_up() {
    for (method, path) in PATHS {
        let served = Served::new();
        let (stream, mut reader) = full(&served);
        let mut client = served.connect();
        client
            .request(
                method,
                path,
                &[("content-type", "application/octet-stream")],
                Some(&[2; SIZE]),
            )
            .await;
        waits(&stream).await;
        sleep(super::DAY).await;
        assert_eq!(rest(&mut reader).await.len(), 2 * SIZE, "{path}");
        client.response().await.is_success();
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_of_frames_that_has_gone_is_given_up_at_once() {
    let served = Served::new();
    let (stream, _reader) = full(&served);
    let mut client = served.connect();
    client.begin("POST", PLACE, &[TYPE]).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    let append = Request::Append(vec![2; SIZE].into());
    client
        .chunk(&said(&[Request::Hello(Hello { capabilities: 0, ..Hello::OURS }), open, append]))
        .await;
    waits(&stream).await;
    drop(client);
    sleep(MOMENT).await;
    let stat = stream.stat();
    assert_eq!((stat.writers.len(), stat.head, stat.writers_died), (0, SIZE as u64, 1));
}
