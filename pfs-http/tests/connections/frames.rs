//! Frames over HTTP: clients that say nothing.

use std::time::Duration;

use bytes::BytesMut;
use pfs_proto::{Decoder, ErrorCode, Hello, MEDIA_TYPE, Reply, Request, WriteOptions};
use tokio::time::{Instant, sleep};

use super::{DAY, S, Served, client::Response};

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
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(&answer.body);
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap());
    frames.last().map(|frame| Reply::decode(frame).unwrap())
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
