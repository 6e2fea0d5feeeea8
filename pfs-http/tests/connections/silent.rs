//! Silent peers: clients that neither send nor read for a long time, while their connection stays
//! open.

use pfs_proto::{Decoder, End, Hello, ReadOptions, Reply, Request, SlowPolicy, Until};
use pfs_stream::Stream;
use tokio::{task::JoinHandle, time::sleep};

use super::{
    DAY, S, Served, address,
    frames::{PLACE, TYPE, said},
};

const BLOCKING: &str = "/streamfs/s?slow=block";

/// Capacity of a pipe that is far smaller than a chunk.
const NARROW: usize = 1024;

/// More bytes than the ring, the buffers of two connections and the pipes hold.
const BODY: usize = 1_000_000;

#[tokio::test(start_paused = true)]
async fn a_writer_that_stalls_in_a_body_of_known_length_is_a_dead_writer_to_readers() {
    let served = Served::new();
    let stream = served.create(4096);
    let mut reader = served.connect();
    reader.request("GET", "/streamfs/s?until=writers-gone", &[], None).await;
    reader.head().await.unwrap().has(200);
    let mut writer = served.connect();
    writer.request("PUT", S, &[("content-length", "10")], None).await;
    writer.send(b"half").await;
    assert_eq!(reader.piece().await.unwrap(), b"half");
    assert_eq!(reader.piece().await, None, "the connection breaks, and the body does not end");
    writer.response().await.has(408).refuses("body_stalled");
    assert_eq!(stream.stat().writers_died, 1);
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_that_takes_nothing_for_a_day_is_waited_for_and_loses_nothing() {
    let (served, stream) = served();
    let mut reader = served.connect_over(NARROW);
    reader.request("GET", BLOCKING, &[], None).await;
    let writing = waits_for_a_day(&served, &stream).await;
    let mut answer = reader.head().await.unwrap().has(200);
    reader.rest(&mut answer).await;
    writing.await.unwrap();
    assert!(answer.whole);
    assert!(answer.body == data(), "{} bytes", answer.body.len());
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_that_takes_nothing_for_a_day_over_http_2_is_waited_for_and_loses_nothing() {
    let (served, stream) = served();
    let (mut reader, mut connection) =
        h2::client::handshake(served.connect_raw(NARROW)).await.unwrap();
    let url = format!("http://{}{BLOCKING}", address());
    let request = http::Request::get(url).body(()).unwrap();
    let (answer, _) = reader.send_request(request, true).unwrap();
    tokio::select! {
        ended = &mut connection => panic!("{ended:?}"),
        () = stream.readers_reach(1) => {}
    }
    // Like the client of a stopped process: the connection is not read, and pings are not answered.
    let writing = waits_for_a_day(&served, &stream).await;
    tokio::spawn(connection);
    let mut body = answer.await.unwrap().into_body();
    let mut got = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        got.extend_from_slice(&piece);
    }
    writing.await.unwrap();
    assert!(got == data(), "{} bytes", got.len());
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_that_takes_nothing_for_a_day_in_frames_is_waited_for_and_loses_nothing() {
    let (served, stream) = served();
    let mut reader = served.connect_over(NARROW);
    let options =
        ReadOptions { policy: SlowPolicy::Block, until: Until::Closed, ..ReadOptions::default() };
    let hello = Request::Hello(Hello { capabilities: 0, ..Hello::OURS });
    let open = Request::OpenReader(S.parse().unwrap(), options);
    reader.request("POST", PLACE, &[TYPE], Some(&said(&[hello, open]))).await;
    let writing = waits_for_a_day(&served, &stream).await;
    let mut answer = reader.head().await.unwrap().has(200);
    reader.rest(&mut answer).await;
    writing.await.unwrap();
    assert!(answer.whole);
    let got = payload(&answer.body);
    assert!(got == data(), "{} bytes", got.len());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_while_its_stream_ends_gets_all_bytes_and_the_reason_before_the_break()
{
    for (failed, reason) in [(true, "\"reason\":\"failed\""), (false, "\"code\":\"removed\"")] {
        let served = Served::new();
        let stream = served.create(1024 * 1024);
        let [mut plain, mut events] = [(); 2].map(|()| served.connect_over(NARROW));
        plain.request("GET", S, &[], None).await;
        events.request("GET", S, &[("accept", "text/event-stream")], None).await;
        stream.readers_reach(2).await;
        // Less than the server accepts of a body before it has sent any byte. An event that is sent
        // in parts would break inside.
        let text = "text\n".repeat(1_000);
        stream.writer().unwrap().try_append(text.as_bytes()).unwrap();
        sleep(DAY).await;
        if failed {
            assert!(stream.close_failed());
        } else {
            assert!(served.daemon.registry().remove(S));
        }
        drop(stream);
        sleep(DAY).await;

        let mut answer = plain.head().await.unwrap().has(200);
        plain.rest(&mut answer).await;
        assert!(!answer.whole && answer.body == text.as_bytes(), "{} bytes", answer.body.len());
        let mut answer = events.head().await.unwrap().has(200);
        events.rest(&mut answer).await;
        let told = String::from_utf8(answer.body).unwrap();
        assert!(!answer.whole && told.contains(reason), "{} bytes, none of {reason}", told.len());
    }
}

fn served() -> (Served, Stream) {
    let served = Served::new();
    let stream = served.create(64 * 1024);
    (served, stream)
}

/// Bytes that readers have to get.
fn data() -> Vec<u8> {
    (0..BODY).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// Starts a writer, waits for a day, and checks that the writer waits for the one reader.
async fn waits_for_a_day(served: &Served, stream: &Stream) -> JoinHandle<()> {
    stream.readers_reach(1).await;
    let mut writer = served.connect();
    let writing = tokio::spawn(async move {
        writer.request("PUT", "/streamfs/s?close", &[], Some(&data())).await;
        writer.response().await.is_success();
    });
    sleep(DAY).await;
    let stat = stream.stat();
    assert!(
        stat.writers[0].waiting && stat.readers[0].blocking && !writing.is_finished(),
        "{stat:?}"
    );
    writing
}

/// Bytes of the stream in the frames that a reader got. Panics unless the whole stream is there.
fn payload(body: &[u8]) -> Vec<u8> {
    let (mut decoder, mut bytes) = (Decoder::new(), Vec::new());
    decoder.buffer().extend_from_slice(body);
    while let Some(frame) = decoder.next_frame().unwrap() {
        match Reply::decode(frame).unwrap() {
            Reply::Hello(_) | Reply::Reading { .. } => {}
            Reply::Data(data) => bytes.extend_from_slice(&data),
            Reply::End { reason: End::Closed, .. } => return bytes,
            other => panic!("{other:?}"),
        }
    }
    panic!("the body ended before the stream");
}
