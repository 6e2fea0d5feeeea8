//! Round trips of messages, and refusal of everything that is not a message.

use bytes::{Bytes, BytesMut};
use pfs_proto::{
    CreateOptions, DaemonInfo, DataKind, Decoder, ErrorCode, Frame, HEADER_LEN, IfExists, MAX_PATH,
    MAX_PAYLOAD, MAX_PUT, MessageError, PathError, PutOptions, Reply, Request, put_data_header,
};
use proptest::prelude::*;

use crate::{any, encoded, frames};

proptest! {
    #[test]
    fn every_request_is_read_as_it_was_written(request in any::request()) {
        let frames = frames(&encoded(|out| request.encode(out)));
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(Request::decode(frames[0].clone()), Ok(request));
    }

    #[test]
    fn every_reply_is_read_as_it_was_written(reply in any::reply()) {
        let frames = frames(&encoded(|out| reply.encode(out)));
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(Reply::decode(frames[0].clone()), Ok(reply));
    }

    #[test]
    fn a_message_that_is_cut_short_or_goes_on_is_refused(request in any::request(), cut in any::<prop::sample::Index>()) {
        let frame = frames(&encoded(|out| request.encode(out))).remove(0);
        let takes_all = matches!(request, Request::Append(_) | Request::AppendPart(_) | Request::Put(..));
        prop_assume!(!takes_all);

        let mut longer = BytesMut::from(&frame.payload[..]);
        longer.extend_from_slice(b"?");
        let longer = Request::decode(Frame { kind: frame.kind, payload: longer.freeze() });
        if matches!(request, Request::Hello(_)) {
            prop_assert_eq!(longer, Ok(request));
        } else {
            prop_assert_eq!(longer, Err(MessageError::TrailingBytes { kind: frame.kind, extra: 1 }));
        }

        if !frame.payload.is_empty() {
            let payload = frame.payload.slice(..cut.index(frame.payload.len()));
            let shorter = Request::decode(Frame { kind: frame.kind, payload });
            prop_assert!(shorter.is_err());
        }
    }

    #[test]
    fn a_reply_is_no_request_and_a_request_no_reply(request in any::request(), reply in any::reply()) {
        let request = frames(&encoded(|out| request.encode(out))).remove(0);
        let reply = frames(&encoded(|out| reply.encode(out))).remove(0);
        prop_assert_eq!(Reply::decode(request.clone()), Err(MessageError::UnknownKind(request.kind)));
        prop_assert_eq!(Request::decode(reply.clone()), Err(MessageError::UnknownKind(reply.kind)));
    }
}

#[test]
fn a_chunk_larger_than_a_frame_goes_out_in_parts() {
    for (len, parts) in
        [(0, 0), (1, 0), (MAX_PAYLOAD, 0), (MAX_PAYLOAD + 1, 1), (3 * MAX_PAYLOAD, 2)]
    {
        let chunk: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let frames = frames(&encoded(|out| Reply::Data(Bytes::from(chunk.clone())).encode(out)));
        assert_eq!(frames.len(), parts + 1, "{len} bytes");
        let mut joined = Vec::new();
        for (at, frame) in frames.into_iter().enumerate() {
            match Reply::decode(frame).unwrap() {
                Reply::DataPart(bytes) if at < parts => joined.extend_from_slice(&bytes),
                Reply::Data(bytes) if at == parts => joined.extend_from_slice(&bytes),
                other => panic!("{other:?} at {at}"),
            }
        }
        assert!(joined == chunk);
    }
}

#[test]
fn the_largest_put_chunk_fits_into_a_frame_with_the_longest_path_and_all_options() {
    let path = format!("/s/{}", "x".repeat(MAX_PATH - 3)).parse().unwrap();
    let create = CreateOptions {
        ring_buffer_size: Some(1),
        channel_buffer_size: Some(2),
        ttl: Some(std::time::Duration::from_secs(3)),
        content_type: Some("x".repeat(255)),
        if_exists: IfExists::Keep,
        reserve: true,
    };
    let request = Request::Put(path, PutOptions { create, close: true }, vec![7; MAX_PUT].into());
    let frame = frames(&encoded(|out| request.encode(out))).remove(0);
    assert_eq!(frame.payload.len(), MAX_PAYLOAD);
    assert!(Request::decode(frame) == Ok(request));
}

#[test]
fn a_put_that_is_truncated_before_its_chunk_is_refused() {
    let request = Request::Put(
        "/s/p".parse().unwrap(),
        PutOptions::default().content_type("a/b"),
        Bytes::new(),
    );
    let frame = frames(&encoded(|out| request.encode(out))).remove(0);
    for len in 0..frame.payload.len() {
        let cut = Frame { kind: frame.kind, payload: frame.payload.slice(..len) };
        assert_eq!(
            Request::decode(cut),
            Err(MessageError::Truncated { kind: frame.kind }),
            "{len}"
        );
    }
}

#[test]
fn a_data_header_and_its_payload_equal_the_output_of_encode() {
    let bytes = Bytes::from_static(b"hello");
    for (kind, message) in [
        (DataKind::Append, encoded(|out| Request::Append(bytes.clone()).encode(out))),
        (DataKind::AppendPart, encoded(|out| Request::AppendPart(bytes.clone()).encode(out))),
        (DataKind::Data, encoded(|out| Reply::Data(bytes.clone()).encode(out))),
        (DataKind::DataPart, encoded(|out| Reply::DataPart(bytes.clone()).encode(out))),
    ] {
        let mut by_hand = Vec::new();
        put_data_header(&mut by_hand, kind, bytes.len());
        assert_eq!(by_hand.len(), HEADER_LEN);
        by_hand.extend_from_slice(&bytes);
        assert_eq!(by_hand, message);
    }
}

#[test]
fn encoded_messages_match_the_documented_layout() {
    let path: pfs_proto::StreamPath = "/s/é".parse().unwrap();
    let options = pfs_proto::WriteOptions::default().wait_readers(0x0102).replace(true);
    assert_eq!(
        encoded(|out| Request::OpenWriter(path, options).encode(out)),
        &[12, 0, 0, 0, 0x03, 5, 0, b'/', b's', b'/', 0xc3, 0xa9, 2, 1, 0, 0, 1][..]
    );
    let (path, options) = ("/s/p".parse().unwrap(), options.header_bytes(0x0304));
    assert_eq!(
        encoded(|out| Request::OpenWriter(path, options).encode(out)),
        &[15, 0, 0, 0, 0x1f, 4, 0, b'/', b's', b'/', b'p', 2, 1, 0, 0, 1, 4, 3, 0, 0][..]
    );
    assert_eq!(
        encoded(|out| Request::MarkSync { chunk: 0x0102 }.encode(out)),
        &[8, 0, 0, 0, 0x20, 2, 1, 0, 0, 0, 0, 0, 0][..]
    );
    let path = "/s/p".parse().unwrap();
    let options = PutOptions::default().ring_buffer_size(0x0102).content_type("a/b").close(true);
    assert_eq!(
        encoded(|out| Request::Put(path, options, Bytes::from_static(b"hi")).encode(out)),
        &[
            28, 0, 0, 0, 0x0f, 4, 0, b'/', b's', b'/', b'p', 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3,
            0, b'a', b'/', b'b', 1, 0, 1, b'h', b'i'
        ][..]
    );
    assert_eq!(
        encoded(|out| Reply::Put { created: true, offset: 0x0102 }.encode(out)),
        &[9, 0, 0, 0, 0x98, 1, 2, 1, 0, 0, 0, 0, 0, 0][..]
    );
    assert_eq!(
        encoded(|out| Request::Fail { close: true }.encode(out)),
        &[1, 0, 0, 0, 0x17, 1][..]
    );
    assert_eq!(encoded(|out| Request::Withdraw.encode(out)), &[0, 0, 0, 0, 0x18][..]);
    assert_eq!(encoded(|out| Request::Reload.encode(out)), &[0, 0, 0, 0, 0x0d][..]);
    assert_eq!(
        encoded(|out| Reply::Ack { chunks: 1, offset: u64::MAX, readers: 2 }.encode(out)),
        &[
            20, 0, 0, 0, 0x90, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 2,
            0, 0, 0
        ][..]
    );
}

#[test]
fn a_bad_path_and_a_broken_message_have_different_error_codes() {
    let frame = |payload: &'static [u8]| Frame { kind: 0x06, payload: Bytes::from_static(payload) };
    let bad_path = Request::decode(frame(b"\x02\0/s")).unwrap_err();
    assert_eq!(
        (bad_path, bad_path.code()),
        (MessageError::Path(PathError::NoName), ErrorCode::BadPath)
    );

    let truncated = Request::decode(frame(b"\xff\xff/s")).unwrap_err();
    assert_eq!(
        (truncated, truncated.code()),
        (MessageError::Truncated { kind: 0x06 }, ErrorCode::Protocol)
    );

    let not_utf8 = Request::decode(frame(b"\x02\0/\xff")).unwrap_err();
    assert_eq!(
        (not_utf8, not_utf8.code()),
        (MessageError::NotUtf8 { kind: 0x06 }, ErrorCode::Protocol)
    );
}

#[test]
fn a_value_without_a_meaning_is_refused() {
    for (kind, payload, field) in [
        (0x12, &[2][..], "close"),
        (0x17, &[2], "close"),
        (0x91, &[5, 0, 0, 0, 0, 0, 0, 0, 0], "reason"),
    ] {
        let frame = Frame { kind, payload: Bytes::from_static(payload) };
        let errors = [Request::decode(frame.clone()).err(), Reply::decode(frame).err()];
        let value = payload[0].into();
        assert!(
            errors.contains(&Some(MessageError::BadValue { kind, field, value })),
            "{errors:?}"
        );
    }
}

#[test]
fn no_text_is_long_enough_to_make_an_invalid_frame() {
    let message = "ü".repeat(40_000);
    let frame = frames(&encoded(|out| {
        Reply::Error { code: ErrorCode::Internal, message: message.clone() }.encode(out);
    }));
    let Ok(Reply::Error { message: cut, .. }) = Reply::decode(frame[0].clone()) else { panic!() };
    assert!(message.starts_with(&cut) && cut.len() > 65_000);

    let info = DaemonInfo {
        version: message.clone(),
        pid: 1,
        started: std::time::UNIX_EPOCH,
        mounts: vec![message; 100],
        streams: 1,
        max_streams: 2,
        memory: 3,
        max_memory: 4,
        connections: 5,
        max_connections: 6,
    };
    let frame = frames(&encoded(|out| Reply::Daemon(info).encode(out)));
    let Ok(Reply::Daemon(cut)) = Reply::decode(frame[0].clone()) else { panic!() };
    assert_eq!((cut.mounts.len(), cut.streams, cut.max_connections), (14, 1, 6));
}

#[test]
fn a_document_larger_than_a_frame_becomes_an_error() {
    let wire = encoded(|out| Reply::Document(vec![b'x'; MAX_PAYLOAD + 1].into()).encode(out));
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(&wire);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert!(matches!(Reply::decode(frame), Ok(Reply::Error { code: ErrorCode::TooLarge, .. })));
}
