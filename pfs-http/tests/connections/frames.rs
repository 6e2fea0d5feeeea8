//! Frames over HTTP: clients that say nothing.

use std::time::Duration;

use bytes::BytesMut;
use pfs_proto::{
    Decoder, ErrorCode, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Hello, MEDIA_TYPE, ReadOptions, Reply,
    Request, SlowPolicy, WriteOptions,
};
use pfs_stream::Read;
use tokio::time::{Instant, sleep};

use super::{
    DAY, S, Served,
    client::{Client, Response},
};

pub(crate) const PLACE: &str = "/v1/frames";
pub(crate) const TYPE: (&str, &str) = ("content-type", MEDIA_TYPE);

/// The frames of these requests, one after the other.
pub(crate) fn said(requests: &[Request]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    requests.iter().for_each(|request| request.encode(&mut bytes));
    bytes.to_vec()
}

/// The last reply in the body of an answer that is whole.
#[track_caller]
fn last_reply(answer: Response) -> Option<Reply> {
    let answer = answer.has(200);
    assert!(answer.whole, "the body broke off");
    replies(&answer.body).pop()
}

fn replies(body: &[u8]) -> Vec<Reply> {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(body);
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap());
    frames.map(|frame| Reply::decode(frame).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_stalls_is_hung_up_on_and_a_writer_may_be_silent() {
    let served = Served::new();
    let stream = served.create(4096);
    let hello = Request::Hello(Hello::OURS);
    let begun = Instant::now();
    let [mut silent, mut polite, mut writer] = [(); 3].map(|()| served.connect());
    for client in [&mut silent, &mut polite, &mut writer] {
        client.begin("POST", PLACE, &[TYPE]).await;
    }
    polite.chunk(&said(std::slice::from_ref(&hello))).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    writer.chunk(&said(&[hello, open])).await;
    for stalled in [&mut silent, &mut polite] {
        let last = last_reply(stalled.response().await);
        assert!(matches!(last, Some(Reply::Error { code: ErrorCode::Timeout, .. })), "{last:?}");
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert!(stalled.until_hung_up().await.is_empty());
    }
    sleep(DAY).await;
    assert_eq!(stream.stat().writers.len(), 1);
    writer.chunk(&said(&[Request::Append("x".into()), Request::Finish { close: false }])).await;
    writer.end_chunks().await;
    let last = last_reply(writer.response().await);
    assert!(matches!(last, Some(Reply::Done)), "{last:?}");
}

fn hello(capabilities: u64) -> Request {
    Request::Hello(Hello { capabilities, ..Hello::OURS })
}

/// Waits for heartbeats, whatever comes besides, and returns when each came.
async fn heartbeats(client: &mut Client, count: usize) -> Vec<Duration> {
    let mut heartbeat = BytesMut::new();
    Reply::Heartbeat.encode(&mut heartbeat);
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < count {
        if client.piece().await.expect("an answer that goes on") == heartbeat {
            times.push(begun.elapsed());
        }
    }
    times
}

#[tokio::test(start_paused = true)]
async fn an_idle_reader_or_writer_gets_a_heartbeat_every_15_seconds() {
    let served = Served::new();
    served.create(4096);
    let missing = "/streamfs/missing".parse().unwrap();
    for open in [
        Request::OpenReader(S.parse().unwrap(), ReadOptions::default()),
        Request::OpenReader(missing, ReadOptions { wait: true, ..ReadOptions::default() }),
        Request::OpenWriter(S.parse().unwrap(), WriteOptions { wait_readers: 9, ..WriteOptions::default() }),
        Request::Watch(S.parse().unwrap()),
    ] {
        let mut client = served.connect();
        let body = said(&[hello(Hello::HEARTBEAT), open.clone()]);
        if let Request::OpenWriter(..) = open {
            client.begin("POST", PLACE, &[TYPE]).await;
            client.chunk(&body).await;
        } else {
            client.request("POST", PLACE, &[TYPE], Some(&body)).await;
        }
        client.head().await.unwrap().has(200);
        let times = heartbeats(&mut client, 3).await;
        assert_eq!(times, [1, 2, 3].map(|beat| beat * HEARTBEAT_INTERVAL), "{open:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_no_heartbeats_gets_none() {
    let served = Served::new();
    served.create(4096);
    let open = Request::OpenReader(S.parse().unwrap(), ReadOptions::default());
    let mut reader = served.connect();
    reader.request("POST", PLACE, &[TYPE], Some(&said(&[hello(0), open]))).await;
    sleep(DAY).await;
    served.daemon.registry().remove(S);
    let answer = reader.response().await;
    // Hello, where the stream begins, and that it was removed.
    assert_eq!(replies(&answer.body).len(), 3, "{:?}", replies(&answer.body));
}

#[tokio::test(start_paused = true)]
async fn a_writer_without_heartbeats_has_died_after_45_seconds_and_one_with_them_lives() {
    let served = Served::new();
    let stream = served.create(4096);
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    let [mut dead, mut alive] = [(); 2].map(|()| served.connect());
    for writer in [&mut dead, &mut alive] {
        writer.begin("POST", PLACE, &[TYPE]).await;
        writer.chunk(&said(&[hello(Hello::HEARTBEAT), open.clone()])).await;
    }
    let living = async {
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            alive.chunk(&said(&[Request::Heartbeat])).await;
        }
    };
    let second = Duration::from_secs(1);
    let dying = async {
        sleep(HEARTBEAT_TIMEOUT - second).await;
        let died_before = stream.stat().writers_died;
        sleep(2 * second).await;
        (died_before, stream.stat().writers_died)
    };
    tokio::select! {
        died = dying => assert_eq!(died, (0, 1)),
        () = living => unreachable!(),
    }
    assert_eq!(stream.stat().writers.len(), 1);
    alive.chunk(&said(&[Request::Append("x".into()), Request::Finish { close: false }])).await;
    alive.end_chunks().await;
    let last = last_reply(alive.response().await);
    assert!(matches!(last, Some(Reply::Done)), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_a_block_reader_stalls_for_a_day_has_not_died() {
    let served = Served::new();
    let stream = served.create(4096);
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut reader = stream.reader(options, pfs_proto::Peer::default()).unwrap();
    let mut writer = served.connect();
    writer.begin("POST", PLACE, &[TYPE]).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    writer.chunk(&said(&[hello(Hello::HEARTBEAT), open])).await;
    writer
        .chunk(&said(&[Request::Append(vec![1; 4096].into()), Request::Append(vec![2; 4096].into())]))
        .await;
    for _ in 0..DAY.as_secs() / HEARTBEAT_INTERVAL.as_secs() {
        sleep(HEARTBEAT_INTERVAL).await;
        writer.chunk(&said(&[Request::Heartbeat])).await;
    }
    writer.chunk(&said(&[Request::Finish { close: true }])).await;
    writer.end_chunks().await;
    let mut bytes = Vec::new();
    while let Read::Data { .. } = reader.read(&mut bytes, 4096).await.unwrap() {}
    assert_eq!(bytes, [[1; 4096], [2; 4096]].concat());
    assert!(matches!(last_reply(writer.response().await), Some(Reply::Done)));
}
