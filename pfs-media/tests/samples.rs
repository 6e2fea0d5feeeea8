//! What the indexer finds in streams that FFmpeg wrote: one or two seconds in each format, with a
//! key frame every five frames.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know

use pfs_media::{Format, Indexer, Mark};
use proptest::prelude::*;

/// A sample, its format, and how many sync points it has.
const SAMPLES: [(&str, Format, usize); 20] = [
    ("video.ts", Format::MpegTs, 4),
    ("audio.ts", Format::MpegTs, 3),
    ("video.mkv", Format::Matroska, 4),
    ("video.webm", Format::Matroska, 4),
    ("fragments.mp4", Format::Mp4, 4),
    ("frames.mp4", Format::Mp4, 4),
    ("video.flv", Format::Flv, 4),
    ("vorbis.ogg", Format::Ogg, 6),
    ("opus.ogg", Format::Ogg, 11),
    ("flac.ogg", Format::Ogg, 5),
    ("theora.ogv", Format::Ogg, 4),
    ("audio.flac", Format::Flac, 10),
    ("audio.wav", Format::Wav, 1),
    ("audio.mp3", Format::Mp3, 42),
    ("audio.adts", Format::Adts, 23),
    ("audio.ac3", Format::Ac3, 21),
    ("video.mjpeg", Format::Mjpeg, 5),
    ("video.264", Format::H264, 4),
    ("video.265", Format::Hevc, 4),
    ("video.y4m", Format::Y4m, 3),
];

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The marks of a stream that is fed in pieces of these sizes, the last one again and again.
fn index(format: Format, bytes: &[u8], pieces: &[usize]) -> Vec<Mark> {
    let mut indexer = Indexer::new(format, 0);
    let (mut rest, mut marks) = (bytes, Vec::new());
    let mut pieces = pieces.iter().chain(std::iter::repeat(pieces.last().unwrap()));
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
        indexer.feed(piece, &mut marks).unwrap_or_else(|error| panic!("{format}: {error}"));
        rest = after;
    }
    marks
}

fn header(marks: &[Mark]) -> &[u8] {
    let header = marks.iter().rev().find_map(|mark| match mark {
        Mark::Header(header) => Some(&header[..]),
        _ => None,
    });
    header.unwrap_or_default()
}

fn sync_points(marks: &[Mark]) -> Vec<u64> {
    let at = |mark: &Mark| match mark {
        Mark::Sync(at) | Mark::SyncEvery(at, _) => Some(*at),
        _ => None,
    };
    marks.iter().filter_map(at).collect()
}

#[test]
fn each_format_is_recognised_by_its_first_bytes_and_by_its_content_type() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let first = &bytes[..bytes.len().min(Format::SNIFF_BYTES)];
        assert_eq!(Format::sniff(first), Some(format), "{name}");
        assert_eq!(Format::from_content_type(format.content_type()), Some(format));
    }
    for other in ["", "{\"a\": 1}\n", "#!/bin/sh\n", "GET / HTTP/1.1\r\n", "\u{0}\u{0}\u{0}\u{0}"] {
        assert_eq!(Format::sniff(other.as_bytes()), None, "{other:?}");
    }
    assert_eq!(Format::from_content_type("Audio/Ogg; codecs=opus"), Some(Format::Ogg));
    assert_eq!(Format::from_content_type("text/html"), Some(Format::Lines));
    assert_eq!(Format::from_content_type("application/json"), None);
}

#[test]
fn more_bytes_are_awaited_only_while_they_may_begin_a_stream_of_a_known_format() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let known = (0..).find(|len| Format::sniff(&bytes[..*len]) == Some(format)).unwrap();
        for len in 0..known {
            assert!(Format::may_follow(&bytes[..len]), "{name}, {len} bytes");
        }
        assert!(!Format::may_follow(&bytes[..known]), "{name}");
    }
    for other in ["{\"a\": 1}\n", "#!/bin/sh\n", "RIDE", "2026-12-01 INFO"] {
        assert!(!Format::may_follow(other.as_bytes()), "{other:?}");
    }
    assert!(!Format::may_follow(&[0; Format::SNIFF_BYTES]));
}

#[test]
fn a_signature_is_at_the_beginning_of_a_stream_and_of_no_sync_point() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let found = Format::from_signature(&bytes);
        assert_eq!(found, Some(format).filter(|_| found.is_some()), "{name}");
        assert!(found.is_some() || format.accepts_new_header(), "{name}");
        for point in sync_points(&index(format, &bytes, &[4096])) {
            // H.264 and others repeat their header at sync points, but have no signature.
            let inside = point > 0 || found.is_none();
            assert!(!inside || Format::from_signature(&bytes[point as usize..]).is_none());
        }
    }
}

/// A box of MP4.
fn mp4_box(kind: &[u8; 4], contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    [&(contents.len() as u32 + 8).to_be_bytes()[..], kind, &contents].concat()
}

#[test]
fn small_changes_of_a_large_header_end_the_parsing_before_they_fill_the_memory() {
    let handler = mp4_box(b"hdlr", &[&[0; 12]]);
    let track = [mp4_box(b"tkhd", &[&[0; 16]]), mp4_box(b"mdia", &[&handler])].concat();
    let moov = mp4_box(b"moov", &[&mp4_box(b"mvex", &[]), &mp4_box(b"trak", &[&track])]);
    let large = mp4_box(b"ftyp", &[&[0; 1_000_000]]);
    let (mut indexer, mut marks) = (Indexer::new(Format::Mp4, 0), Vec::new());
    indexer.feed(&[&*large, &moov].concat(), &mut marks).unwrap();
    assert!(header(&marks).len() > 1_000_000);
    let refused = indexer.feed(&moov.repeat(4000), &mut marks);
    assert_eq!(refused, Err(pfs_media::IndexError::HeaderTooLarge));
    let headers: usize = marks.iter().filter(|mark| matches!(mark, Mark::Header(_))).count();
    assert!(headers <= 8, "{headers} headers of a megabyte each");
}

#[test]
fn a_first_line_without_an_end_is_no_header() {
    let (mut indexer, mut marks) = (Indexer::new(Format::Csv, 0), Vec::new());
    // Each byte is searched once, or this takes a minute.
    let fed =
        vec![b'x'; 2 * 1024 * 1024].chunks(1000).try_for_each(|it| indexer.feed(it, &mut marks));
    assert_eq!((fed, marks), (Err(pfs_media::IndexError::HeaderTooLarge), vec![]));
}

#[test]
fn a_header_of_which_a_part_was_lost_is_not_reported() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let whole = index(format, &bytes, &[4096]);
        let (mut indexer, mut marks) = (Indexer::new(format, 0), Vec::new());
        indexer.feed(&bytes[..20], &mut marks).unwrap();
        let middle = bytes.len() / 3;
        indexer.skip_to(middle as u64);
        // The parser may find that it cannot go on without the header.
        let _ = indexer.feed(&bytes[middle..], &mut marks);
        // Some formats repeat their header; MPEG-TS counts the packets in it.
        let found = header(&marks).len();
        assert!(found == 0 || found == header(&whole).len(), "{name}");
    }
}

#[test]
fn every_key_frame_and_every_frame_of_audio_alone_is_a_sync_point() {
    let found = SAMPLES.map(|(name, format, _)| {
        (name, format, sync_points(&index(format, &sample(name), &[4096])).len())
    });
    assert_eq!(found, SAMPLES);
}

#[test]
fn a_stream_that_is_joined_at_a_sync_point_behind_the_header_is_a_stream_of_that_format() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let marks = index(format, &bytes, &[4096]);
        let (header, points) = (header(&marks), sync_points(&marks));
        for (nth, point) in points.iter().enumerate() {
            let joined = [header, &bytes[*point as usize..]].concat();
            if joined.len() > 2000 {
                assert_eq!(Format::sniff(&joined), Some(format), "{name} from {point}");
            }
            let again = index(format, &joined, &[4096]);
            assert_eq!(self::header(&again), header, "{name} from {point}");
            let moved = |at: &u64| at - point + header.len() as u64;
            let expected: Vec<u64> = points[nth..].iter().map(moved).collect();
            let mut found = sync_points(&again);
            if let (Format::H264 | Format::Hevc, [first, ..]) = (format, &mut found[..]) {
                // The header is parameter sets, with which an access unit begins.
                assert_eq!(std::mem::replace(first, expected[0]), 0);
            }
            // Two frames in a row are needed to recognise formats without a header.
            let is_last = points.len() - nth == 1 && header.is_empty();
            assert!(is_last || found == expected, "{name} from {point}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn a_writer_that_starts_over_has_a_header_of_its_own() {
    for (one, other, format) in [
        ("video.mkv", "video.webm", Format::Matroska),
        ("fragments.mp4", "frames.mp4", Format::Mp4),
        ("vorbis.ogg", "opus.ogg", Format::Ogg),
        ("video.ts", "audio.ts", Format::MpegTs),
    ] {
        let (one, other) = (sample(one), sample(other));
        let headers = [&one, &other].map(|bytes| header(&index(format, bytes, &[4096])).to_vec());
        let both = index(format, &[one, other].concat(), &[4096]);
        let found = both.iter().filter_map(|mark| match mark {
            Mark::Header(header) => Some(header.to_vec()),
            _ => None,
        });
        assert_eq!(found.collect::<Vec<_>>(), headers, "{format}");
    }
}

#[test]
fn sync_points_are_found_again_after_bytes_that_were_not_read() {
    for (name, format, _) in SAMPLES {
        let bytes = sample(name);
        let points = sync_points(&index(format, &bytes, &[4096]));
        for cut in (0..bytes.len()).step_by(bytes.len() / 97 + 1).skip(1) {
            let mut indexer = Indexer::new(format, 0);
            let mut marks = Vec::new();
            // The header and the first frame are read, so that the main track is known.
            let read = points.get(1).map_or(points[0] + 1, |second| *second) as usize;
            if cut < read {
                continue;
            }
            indexer.feed(&bytes[..read], &mut marks).unwrap();
            let before = marks.len();
            indexer.skip_to(cut as u64);
            let fed = indexer.feed(&bytes[cut..], &mut marks);
            assert_eq!(fed, Ok(()), "{name} from {cut}");
            let mut again = sync_points(&marks[before..]);
            if let Format::H264 | Format::Hevc = format {
                // The beginning of the access unit may be missing.
                again.drain(..1.min(again.len()));
            }
            assert!(
                again.iter().all(|point| points.contains(point)),
                "{name} from {cut}: {again:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_marks(
        which in 0..SAMPLES.len(),
        pieces in prop::collection::vec(1..5000_usize, 1..20),
    ) {
        let (name, format, _) = SAMPLES[which];
        let bytes = sample(name);
        prop_assert_eq!(index(format, &bytes, &pieces), index(format, &bytes, &[bytes.len()]));
    }

    #[test]
    fn corrupt_bytes_neither_panic_nor_are_looked_at_for_ever(
        which in 0..SAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..50),
        skips in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        piece in 1..5000_usize,
    ) {
        let (name, format, _) = SAMPLES[which];
        let mut bytes = sample(name);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut skips: Vec<_> = skips.into_iter().map(|at| at.index(bytes.len())).collect();
        skips.sort_unstable();
        let mut indexer = Indexer::new(format, 0);
        let (mut at, mut marks) = (0, Vec::new());
        while at < bytes.len() {
            if let Some(skip) = skips.first().copied().filter(|skip| *skip <= at) {
                skips.remove(0);
                at += skip % 1000;
                indexer.skip_to(at as u64);
            }
            let end = bytes.len().min(at + piece);
            let fed = indexer.feed(bytes.get(at..end).unwrap_or_default(), &mut marks);
            at = end.max(at);
            if fed.is_err() {
                break;
            }
        }
        prop_assert!(sync_points(&marks).iter().all(|point| *point < at as u64));
    }

    #[test]
    fn any_bytes_are_parsed_as_any_format_within_bounds(
        which in 0..SAMPLES.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let mut marks = Vec::new();
        let _ = Indexer::new(SAMPLES[which].1, 0).feed(&bytes, &mut marks);
        prop_assert!(marks.len() <= bytes.len());
    }
}
