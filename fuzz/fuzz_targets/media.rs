//! Fuzz target: media indexers and readers that join. Any bytes, in pieces of any size and with
//! holes, are parsed as any format in bounded time and memory, and the sizes of the pieces make no
//! difference. A reader that joins delivers each byte, or reports the byte as missing.

#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pfs_media::{Delivery, Format, Indexer, Joiner, MAX_HEADER_BYTES, Mark};

const FORMATS: [Format; 16] = [
    Format::MpegTs,
    Format::Matroska,
    Format::Mp4,
    Format::Ogg,
    Format::Flac,
    Format::Flv,
    Format::Wav,
    Format::Mp3,
    Format::Adts,
    Format::Ac3,
    Format::Mjpeg,
    Format::H264,
    Format::Hevc,
    Format::Y4m,
    Format::Lines,
    Format::Csv,
];

/// The marks of bytes that are fed in pieces of this size, from offset `at`.
fn index(format: Format, bytes: &[u8], piece: usize, skipped: Option<u64>) -> Vec<Mark> {
    let mut indexer = Indexer::new(format, 0);
    if let Some(at) = skipped {
        indexer.skip_to(at);
    }
    let mut marks = Vec::new();
    for piece in bytes.chunks(piece) {
        if indexer.feed(piece, &mut marks).is_err() {
            assert!(indexer.feed(piece, &mut Vec::new()).is_err(), "an indexer stays off");
            break;
        }
    }
    marks
}

/// Passes bytes in chunks of this size through a joiner, with a loss after a part of them, and
/// checks that everything is delivered or reported, in order.
fn join(mut joiner: Joiner, from: u64, bytes: &Bytes, piece: usize, lost: Option<u64>) {
    let (mut out, mut at) = (VecDeque::new(), from);
    let (mut received, middle) = (from, bytes.len() / 2 / piece * piece);
    for (nth, chunk) in bytes.chunks(piece).enumerate() {
        if let Some(lost) = lost.filter(|_| nth * piece == middle) {
            joiner.gap(received, received + lost, 1, &mut out);
            received += lost;
        }
        joiner.chunk(bytes.slice_ref(chunk), &mut out);
        received += chunk.len() as u64;
        assert!(joiner.position() <= received);
    }
    joiner.end(&mut out);
    for delivery in out {
        match delivery {
            Delivery::Bytes(delivered) => at += delivered.len() as u64,
            Delivery::Joined(_, skipped) => {
                assert!(skipped.start == at && skipped.end >= at);
                at = skipped.end;
            }
            Delivery::Gap { from, to, .. } => {
                assert!(from == at && to > from);
                at = to;
            }
            Delivery::FormatChanged(offset) => assert_eq!(offset, at),
            _ => {}
        }
    }
    assert_eq!(at, received);
}

// The last bytes choose the format, the size of the pieces, and whether bytes are missing before
// the rest: a recorded stream is an input as it is.
fuzz_target!(|data: &[u8]| {
    let [bytes @ .., format, piece, skipped] = data else { return };
    let sniffed = Format::sniff(bytes);
    let format = sniffed
        .filter(|_| format % 2 == 0)
        .unwrap_or(FORMATS[usize::from(format / 2) % FORMATS.len()]);
    let skipped = (*skipped > 127).then_some(u64::from(*skipped) * 1000);
    let marks = index(format, bytes, usize::from(*piece) + 1, skipped);
    // Of the lines that arrive together, only two are marked.
    if format.is_media() {
        assert_eq!(marks, index(format, bytes, bytes.len().max(1), skipped));
    }
    let shared = Bytes::copy_from_slice(bytes);
    join(Joiner::from_begin(sniffed), 0, &shared, usize::from(*piece) + 1, skipped);
    let header = shared.slice(..bytes.len().min(100));
    join(Joiner::searching(format, header, 5000), 5000, &shared, usize::from(*piece) + 1, skipped);
    let (from, end) =
        (skipped.unwrap_or_default(), skipped.unwrap_or_default() + bytes.len() as u64);
    assert!(marks.len() <= bytes.len());
    for mark in marks {
        match mark {
            Mark::Header(header) => assert!(header.len() <= MAX_HEADER_BYTES + bytes.len()),
            // The next line begins after the bytes that end with a newline.
            Mark::Sync(at) => assert!(at >= from && (at < end || !format.is_media() && at == end)),
            Mark::SyncEvery(at, step) => assert!(at >= from && at <= end && step > 0),
            _ => {}
        }
    }
});
