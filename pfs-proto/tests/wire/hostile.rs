//! Hostile input: arbitrary bytes cause no panic and no unbounded allocation.

use bytes::Bytes;
use pfs_proto::{Decoder, Frame, FrameError, HEADER_LEN, MAX_PAYLOAD, Reply, Request};
use proptest::{collection::vec, prelude::*};

use crate::{any, encoded, frames};

/// Arbitrary bytes that are not pure noise: some reads begin with a nearly valid header.
fn read() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..2000),
        (0u32..40, any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(len, kind, rest)| [
            &len.to_le_bytes()[..],
            &[kind],
            &rest
        ]
        .concat()),
        (any::<u32>(), vec(any::<u8>(), 0..4000)).prop_map(|(len, rest)| [
            &len.to_le_bytes()[..],
            &rest
        ]
        .concat()),
        ((MAX_PAYLOAD as u32 - 2)..=(MAX_PAYLOAD as u32 + 2), vec(any::<u8>(), 0..4000))
            .prop_map(|(len, rest)| [&len.to_le_bytes()[..], &rest].concat()),
    ]
}

proptest! {
    #[test]
    fn the_decoder_holds_one_unfinished_frame_at_most_whatever_comes(reads in vec(read(), 1..20)) {
        let mut decoder = Decoder::new();
        for bytes in reads {
            decoder.buffer().extend_from_slice(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.payload.len() <= MAX_PAYLOAD);
                let _ = Request::decode(frame.clone());
                let _ = Reply::decode(frame);
            }
            prop_assert!(decoder.len() < HEADER_LEN + MAX_PAYLOAD);
        }
    }

    #[test]
    fn any_payload_is_a_message_or_an_error(kind in any::<u8>(), payload in vec(any::<u8>(), 0..200)) {
        let frame = Frame { kind, payload: Bytes::from(payload) };
        if let Ok(request) = Request::decode(frame.clone()) {
            let again = frames(&encoded(|out| request.encode(out))).remove(0);
            prop_assert_eq!(Request::decode(again), Ok(request));
        }
        if let Ok(reply) = Reply::decode(frame) {
            let again = frames(&encoded(|out| reply.encode(out))).remove(0);
            prop_assert_eq!(Reply::decode(again), Ok(reply));
        }
    }

    #[test]
    fn a_message_with_a_wrong_byte_is_a_message_or_an_error(
        reply in any::reply(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let frame = frames(&encoded(|out| reply.encode(out))).remove(0);
        prop_assume!(!frame.payload.is_empty());
        let mut payload = frame.payload.to_vec();
        payload[at.index(frame.payload.len())] = byte;
        let _ = Reply::decode(Frame { kind: frame.kind, payload: payload.into() });
    }
}

#[test]
fn an_oversized_frame_is_refused_by_its_header_alone() {
    for claim in [MAX_PAYLOAD as u32 + 1, u32::MAX] {
        let mut decoder = Decoder::new();
        decoder.buffer().extend_from_slice(&claim.to_le_bytes());
        decoder.buffer().extend_from_slice(&[0x10]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { len: claim.into() }));
        assert_eq!(decoder.len(), 0);

        decoder.buffer().extend_from_slice(&encoded(|out| Request::Info.encode(out)));
        assert!(decoder.next_frame().is_err(), "the start of the next frame is unknown");
    }
}

#[test]
fn a_claimed_length_takes_no_memory_before_the_bytes_arrive() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(&(MAX_PAYLOAD as u32).to_le_bytes());
    decoder.buffer().extend_from_slice(&[0x10]);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.buffer().capacity() < MAX_PAYLOAD / 2);
}
