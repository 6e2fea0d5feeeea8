//! Frames decode the same, no matter where the bytes were split in transit.

use bytes::BytesMut;
use pfs_proto::{Decoder, Frame, HEADER_LEN, MAX_PAYLOAD, Reply};
use proptest::{collection::vec, prelude::*};

use crate::{any, drain, frames};

proptest! {
    #[test]
    fn frames_do_not_depend_on_where_the_bytes_are_split(
        replies in vec(any::reply(), 1..12),
        cuts in vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut wire = BytesMut::new();
        replies.iter().for_each(|reply| reply.encode(&mut wire));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.push(wire.len());
        cuts.sort_unstable();

        let (mut decoder, mut got, mut from) = (Decoder::new(), Vec::<Frame>::new(), 0);
        for to in cuts {
            decoder.buffer().extend_from_slice(&wire[from..to]);
            got.extend(drain(&mut decoder).unwrap());
            from = to;
        }
        prop_assert!(decoder.is_empty());
        prop_assert_eq!(&got, &frames(&wire));
        let got: Vec<_> = got.into_iter().map(|frame| Reply::decode(frame).unwrap()).collect();
        prop_assert_eq!(got, replies);
    }
}

#[test]
fn a_frame_is_decoded_with_its_last_byte_and_not_before() {
    let mut wire = BytesMut::new();
    Reply::Data(vec![7; MAX_PAYLOAD].into()).encode(&mut wire);
    let mut decoder = Decoder::new();
    for byte in &wire[..HEADER_LEN + 100] {
        decoder.buffer().extend_from_slice(&[*byte]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(!decoder.is_empty());
    }
    decoder.buffer().extend_from_slice(&wire[HEADER_LEN + 100..wire.len() - 1]);
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.buffer().extend_from_slice(&wire[wire.len() - 1..]);
    assert_eq!(decoder.next_frame().unwrap().unwrap().payload.len(), MAX_PAYLOAD);
    assert!(decoder.is_empty());
}

#[test]
fn an_empty_decoder_frees_its_memory() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"\0\0\0\0");
    decoder.release();
    assert_eq!(decoder.len(), 4, "the decoder keeps the bytes that it read");
    decoder.buffer().extend_from_slice(b"\x82");
    assert_eq!(drain(&mut decoder).unwrap().len(), 1);
    decoder.release();
    assert!(decoder.is_empty());
    assert!(decoder.buffer().capacity() <= 16 * 1024);
}

#[test]
fn an_empty_decoder_offers_aligned_room_of_the_requested_size() {
    let mut decoder = Decoder::new();
    for size in [1, 20_000, 300_000, 5_000] {
        let buffer = decoder.buffer_for(size);
        let room = buffer.spare_capacity_mut();
        assert!(room.len() >= size && room.as_ptr().align_offset(64) == 0);
        let mut frame = BytesMut::new();
        Reply::Data(vec![7; size].into()).encode(&mut frame);
        buffer.extend_from_slice(&frame);
        assert_eq!(drain(&mut decoder).unwrap().len(), 1);
    }
}
