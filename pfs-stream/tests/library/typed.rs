//! Tests of typed streams.

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Frame {
    at: f64,
    name: String,
    bytes: Vec<u8>,
}

fn frame(n: u8) -> Frame {
    Frame {
        at: f64::from(n) / 7.0,
        name: format!("frame\n{n} ☂"),
        bytes: vec![n; usize::from(n) * 100],
    }
}

#[tokio::test]
async fn values_round_trip_through_every_codec() {
    async fn check<C: Codec>(stream: Stream) {
        let mut writer = TypedWriter::<Frame, _, C>::with_codec(stream.writer().unwrap());
        let reader = TypedReader::<Frame, _, C>::with_codec(reader(&stream));
        let again = TypedReader::<Frame, _, C>::with_codec(super::reader(&stream));
        for n in 0..60 {
            writer.append(&frame(n)).await.unwrap();
            assert_eq!(writer.get_ref().readers(), 2, "the number of readers");
        }
        assert_eq!(stream.stat().chunks, 60, "one value per chunk");
        writer.flush().await.unwrap();
        writer.finish(Finish::Close).await.unwrap();
        let expected: Vec<_> = (0..60).map(frame).collect();
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>().await, expected);
        assert_eq!(again.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    }
    for stream in both(1024 * 1024) {
        check::<Json>(stream).await;
    }
    for stream in both(1024 * 1024) {
        check::<Postcard>(stream).await;
    }
}

#[tokio::test]
async fn undecodable_chunks_and_gaps_are_error_items_and_reading_continues() {
    for stream in both(8192) {
        let mut values = TypedReader::<u32>::json(reader(&stream));
        let mut raw = stream.writer().unwrap();
        let mut writer = TypedWriter::<u32>::json(stream.writer().unwrap());
        writer.append(&1).await.unwrap();
        raw.append(b"{\"not\": a value").await.unwrap();
        raw.append(b"4294967296").await.unwrap();
        writer.append(&2).await.unwrap();
        assert_eq!(values.next().await.unwrap().unwrap(), 1);
        for (offset, len) in [(17, 15), (27, 10)] {
            match values.next().await.unwrap().unwrap_err() {
                error @ TypedReadError::Decode { .. } => {
                    assert!(!error.is_final());
                    let said = format!(
                        "the chunk of {len} bytes before offset {offset} does not decode to a value"
                    );
                    assert_eq!(error.to_string(), said);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(values.next().await.unwrap().unwrap(), 2);
        for _ in 0..4 {
            raw.append(&[b' '; 4096]).await.unwrap();
        }
        writer.append(&3).await.unwrap();
        let lost = values.next().await.unwrap().unwrap_err();
        assert!(
            matches!(lost, TypedReadError::Lost(LostData { from: 29, chunks: 3, .. })),
            "{lost:?}"
        );
        assert!(values.next().await.unwrap().is_err());
        assert_eq!(values.next().await.unwrap().unwrap(), 3);
        stream.remove();
        let removed = values.next().await.unwrap().unwrap_err();
        assert!(removed.is_final() && matches!(removed, TypedReadError::Read(ReadError::Removed)));
        assert!(values.next().await.is_none());
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_does_not_end_the_writer() {
    for stream in both(4096) {
        let mut writer = TypedWriter::<Vec<u8>>::json(stream.writer().unwrap());
        let error = writer.append(&vec![0; 5000]).await.unwrap_err();
        assert!(matches!(error, TypedWriteError::Write(WriteError::TooLarge { max: 4096, .. })));
        let mut maps =
            TypedWriter::<std::collections::HashMap<(u8, u8), u8>>::json(writer.get_ref().clone());
        let error = maps.append(&[((1, 2), 3)].into()).await.unwrap_err();
        assert!(matches!(error, TypedWriteError::Encode(_)), "JSON does not support these keys");
        assert_eq!(stream.bytes_written(), 0);
        writer.append(&vec![7]).await.unwrap();
        assert_eq!(
            reader(&stream).try_next().unwrap(),
            Some(Event::Chunk("[7]\n".into())),
            "a line of JSON"
        );
    }
}

#[test]
fn a_postcard_chunk_with_trailing_bytes_does_not_decode() {
    let [stream, _] = both(4096);
    stream.writer().unwrap().try_append(&[5, 6]).unwrap();
    let mut values = TypedReader::<u8, _, Postcard>::with_codec(reader(&stream)).into_iter();
    assert!(matches!(
        values.next().unwrap().unwrap_err(),
        TypedReadError::Decode { len: 2, offset: 2, .. }
    ));
}
