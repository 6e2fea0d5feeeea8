//! Frames over HTTP: silent clients, heartbeats, half-duplex requests, and frames in a header.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::BytesMut;
use pfs_peer::http::Response;
use pfs_proto::{
    Decoder, ErrorCode, FRAMES, HALF_DUPLEX, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Hello,
    MEDIA_TYPE, ReadOptions, Reply, Request, SlowPolicy, WriteOptions,
};
use pfs_stream::Read;
use tokio::time::{Instant, sleep, timeout};

use super::{Client, DAY, S, Served};

pub(crate) const PLACE: &str = "/v1/frames";
pub(crate) const TYPE: (&str, &str) = ("content-type", MEDIA_TYPE);

/// Encodes the requests as consecutive frames.
pub(crate) fn said(requests: &[Request]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    requests.iter().for_each(|request| request.encode(&mut bytes));
    bytes.to_vec()
}

/// Last reply in a complete response.
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
async fn a_stalled_request_is_hung_up_on_and_an_open_writer_may_be_silent() {
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

#[tokio::test(start_paused = true)]
async fn a_request_of_known_length_is_read_to_its_end_before_it_is_answered() {
    let served = Served::new();
    let mut client = served.connect();
    let body = said(&[hello(0), Request::Info]);
    let (hello, rest) = body.split_at(body.len() - 5);
    let head = format!(
        "POST {PLACE} HTTP/1.1\r\nhost: 127.0.0.1:4437\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head.as_bytes()).await;
    client.send(hello).await;
    assert!(
        timeout(Duration::from_secs(4), client.head()).await.is_err(),
        "the daemon responds before the end"
    );
    client.send(rest).await;
    let answer = client.response().await.has(200);
    assert!(matches!(replies(&answer.body)[..], [Reply::Hello(_), Reply::Daemon(_)]), "{answer:?}");

    // A request whose body does not end is refused.
    client.send(head.as_bytes()).await;
    client.send(hello).await;
    client.response().await.has(408).refuses("body_stalled");
}

fn hello(capabilities: u64) -> Request {
    Request::Hello(Hello { capabilities, ..Hello::OURS })
}

/// Waits for `count` heartbeats, ignoring all other replies, and returns the times at which they
/// came.
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
        Request::OpenWriter(
            S.parse().unwrap(),
            WriteOptions { wait_readers: 9, ..WriteOptions::default() },
        ),
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
    // Hello, the start of the stream, and its removal.
    assert_eq!(replies(&answer.body).len(), 3, "{:?}", replies(&answer.body));
}

#[tokio::test(start_paused = true)]
async fn a_writer_without_heartbeats_has_died_after_45_seconds_and_is_told_and_one_with_them_lives()
{
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
    let told = last_reply(dead.response().await);
    assert!(matches!(told, Some(Reply::Error { code: ErrorCode::Timeout, .. })), "{told:?}");
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
    let mut reader = stream.reader(options).unwrap();
    let mut writer = served.connect();
    writer.begin("POST", PLACE, &[TYPE]).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    writer.chunk(&said(&[hello(Hello::HEARTBEAT), open])).await;
    writer
        .chunk(&said(&[
            Request::Append(vec![1; 4096].into()),
            Request::Append(vec![2; 4096].into()),
        ]))
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

#[tokio::test(start_paused = true)]
async fn a_half_duplex_request_is_answered_at_its_end_with_the_last_acknowledgement() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut writer = served.connect();
    writer.begin("POST", PLACE, &[TYPE, (HALF_DUPLEX, "true")]).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    writer.chunk(&said(&[hello(Hello::HEARTBEAT), open])).await;
    for appended in 1..=3 {
        writer.chunk(&said(&[Request::Append("x".into()), Request::Heartbeat])).await;
        sleep(HEARTBEAT_INTERVAL).await;
        assert_eq!(stream.summary().head, appended);
    }
    writer.chunk(&said(&[Request::Finish { close: false }])).await;
    let answered = timeout(Duration::from_millis(900), writer.head()).await;
    assert!(answered.is_err(), "the daemon responds before the request has ended");
    writer.end_chunks().await;
    let answer = writer.response().await.has(200);
    assert_eq!(answer.header(HALF_DUPLEX), Some("true"));
    assert!(
        matches!(
            replies(&answer.body)[..],
            [
                Reply::Hello(_),
                Reply::Writing { .. },
                Reply::Ack { chunks: 3, offset: 3, .. },
                Reply::Done
            ]
        ),
        "{answer:?}"
    );
    assert_eq!((stream.stat().writers_finished, stream.stat().writers_died), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_half_duplex_request_that_fails_is_answered_although_it_goes_on() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut writer = served.connect();
    writer.begin("POST", PLACE, &[TYPE, (HALF_DUPLEX, "true")]).await;
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    writer.chunk(&said(&[hello(0), open, Request::Append("x".into())])).await;
    sleep(Duration::from_secs(1)).await;
    stream.close();
    let answer = writer.response().await.has(200);
    let found = replies(&answer.body);
    assert!(
        matches!(
            found[..],
            [.., Reply::Ack { chunks: 1, .. }, Reply::Error { code: ErrorCode::Closed, .. }]
        ),
        "{found:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn frames_in_a_header_are_answered_like_frames_in_a_body() {
    let served = Served::new();
    let mut client = served.connect();
    let frames = BASE64_STANDARD.encode(said(&[hello(0), Request::Info]));
    for _ in 0..2 {
        client.request("POST", PLACE, &[TYPE, (FRAMES, &frames)], Some(b"")).await;
        let answer = client.response().await.has(200);
        assert!(answer.header(FRAMES).is_some(), "an older daemon would not have heard it");
        assert!(
            matches!(replies(&answer.body)[..], [Reply::Hello(_), Reply::Daemon(_)]),
            "{answer:?}"
        );
    }
    client.request("POST", PLACE, &[TYPE, (FRAMES, "no base64")], Some(b"")).await;
    client.response().await.has(400).refuses("bad_frames");
    client.request("POST", PLACE, &[TYPE], Some(&said(&[hello(0), Request::Info]))).await;
    assert!(client.response().await.has(200).header(FRAMES).is_none());
}
