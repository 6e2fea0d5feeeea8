//! Fuzz target: any bytes, decoded in pieces of any size. The decoder returns exactly the frames in
//! the bytes, or an error that stays. Each message that decodes from a frame survives another
//! encoding and decoding.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pfs_proto::{Decoder, Frame, FrameError, HEADER_LEN, MAX_PAYLOAD, PathPrefix, Reply, Request};

// The first two bytes define how the rest is cut, so that a change in the rest leaves the cuts
// alone.
fuzz_target!(|data: &[u8]| {
    let [most, seed, wire @ ..] = data else { return };
    let mut expected = frames(wire);
    let mut decoder = Decoder::new();
    for piece in pieces(wire, *most, *seed) {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert_eq!(expected.next(), Some(Ok(frame.clone())));
                    check_request(frame.clone());
                    check_reply(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(expected.next(), Some(Err(error)));
                    assert!(
                        decoder.is_empty() && decoder.next_frame() == Err(error),
                        "a decoding error is final"
                    );
                    return;
                }
            }
        }
        assert!(
            decoder.len() < HEADER_LEN + MAX_PAYLOAD,
            "the decoder holds more than one unfinished frame"
        );
    }
    assert_eq!(expected.next(), None, "a frame is missing");
});

/// Cuts `wire` into pieces of 1 to `most` bytes, or into one piece if `most` is 0.
fn pieces(mut wire: &[u8], most: u8, seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed) + 1;
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = match most {
            0 => wire.len(),
            most => 1 + (state >> 16) as usize % usize::from(most),
        };
        let (piece, rest) = wire.split_at(len.min(wire.len()));
        wire = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Model of the frame format: splits all of `wire` at once, as documented.
fn frames(mut wire: &[u8]) -> impl Iterator<Item = Result<Frame, FrameError>> {
    std::iter::from_fn(move || {
        let (&[a, b, c, d, kind], rest) = wire.split_first_chunk::<HEADER_LEN>()?;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > MAX_PAYLOAD {
            return Some(Err(FrameError::TooLong { len: len as u64 }));
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        wire = rest;
        Some(Ok(Frame { kind, payload: Bytes::copy_from_slice(payload) }))
    })
}

fn check_request(frame: Frame) {
    match Request::decode(frame) {
        Ok(request) => {
            if let Request::List(path) = &request
                && let Ok(prefix) = path.parse::<PathPrefix>()
            {
                assert!(path == "/" || prefix.contains(path.trim_end_matches('/')));
            }
            let again = encoded(|wire| request.encode(wire));
            assert_eq!(Request::decode(again), Ok(request));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_reply(frame: Frame) {
    match Reply::decode(frame) {
        Ok(reply) => {
            let again = encoded(|wire| reply.encode(wire));
            assert_eq!(Reply::decode(again), Ok(reply));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The one frame that `encode` writes.
fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Frame {
    let mut decoder = Decoder::new();
    encode(decoder.buffer());
    let frame =
        decoder.next_frame().expect("the frame is well-formed").expect("the frame is whole");
    assert!(decoder.is_empty(), "the message is one frame");
    frame
}
