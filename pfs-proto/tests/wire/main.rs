//! Tests of the wire protocol, over all messages and arbitrary bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any;
mod hello;
mod hostile;
mod messages;
mod splitting;

use bytes::BytesMut;
use pfs_proto::{Decoder, Frame, FrameError};

/// Decodes all frames; panics unless the bytes end at a frame boundary.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(bytes);
    let frames = drain(&mut decoder).unwrap();
    assert!(decoder.is_empty());
    frames
}

/// Decodes all complete frames.
fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
    std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
}

/// Returns the output of `encode`.
fn encoded(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out);
    out
}
