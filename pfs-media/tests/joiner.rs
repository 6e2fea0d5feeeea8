//! Deliveries of readers that join in the middle, and of readers that lose bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use pfs_media::{Delivery, Format, Indexer, Joiner, Mark};
use proptest::prelude::*;

const SAMPLES: [&str; 20] = [
    "video.ts",
    "audio.ts",
    "video.mkv",
    "video.webm",
    "fragments.mp4",
    "frames.mp4",
    "video.flv",
    "vorbis.ogg",
    "opus.ogg",
    "flac.ogg",
    "theora.ogv",
    "audio.flac",
    "audio.wav",
    "audio.mp3",
    "audio.adts",
    "audio.ac3",
    "video.mjpeg",
    "video.264",
    "video.265",
    "video.y4m",
];

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The header and the places where a decoder can start.
struct Known {
    format: Format,
    header: Bytes,
    points: BTreeSet<u64>,
    cuts: BTreeSet<u64>,
}

fn known(bytes: &[u8]) -> Known {
    let format = Format::sniff(&bytes[..bytes.len().min(Format::SNIFF_BYTES)]).unwrap();
    let mut marks = Vec::new();
    Indexer::new(format, 0).feed(bytes, &mut marks).unwrap();
    let mut known =
        Known { format, header: Bytes::new(), points: BTreeSet::new(), cuts: BTreeSet::new() };
    for mark in marks {
        match mark {
            Mark::Header(header) => known.header = header,
            Mark::Sync(at) => drop(known.points.insert(at)),
            Mark::SyncEvery(first, step) => {
                known.points.extend((first..bytes.len() as u64).step_by(step as usize));
            }
            Mark::Cut(at) => drop(known.cuts.insert(at)),
            _ => {}
        }
    }
    known
}

/// Passes the bytes from `from` on through a joiner, in chunks of these sizes, without the ranges
/// that are lost.
fn pass(
    mut joiner: Joiner,
    bytes: &[u8],
    from: usize,
    sizes: &[usize],
    lost: &[(usize, usize)],
) -> Vec<Delivery> {
    let (mut out, mut at) = (VecDeque::new(), from);
    let mut sizes = sizes.iter().cycle();
    let mut lost =
        lost.iter().copied().filter(|(begin, end)| *begin >= from && begin < end).peekable();
    while at < bytes.len() {
        if let Some((begin, end)) = lost.peek().copied() {
            if begin < at {
                lost.next();
                continue;
            }
            if begin == at {
                joiner.gap(begin as u64, end as u64, 1, &mut out);
                (at, _) = (end, lost.next());
                continue;
            }
        }
        let next = lost.peek().map_or(bytes.len(), |(begin, _)| *begin);
        let end = (at + sizes.next().unwrap()).min(next).min(bytes.len());
        joiner.chunk(Bytes::copy_from_slice(&bytes[at..end]), &mut out);
        at = end;
    }
    joiner.end(&mut out);
    out.into()
}

/// Checks that the deliveries cover everything from `from` on, and returns where the delivered
/// bytes begin again after something was left out.
fn begins(bytes: &[u8], from: u64, deliveries: &[Delivery]) -> Vec<(u64, Option<u64>)> {
    let (mut at, mut begins, mut left) = (from, Vec::new(), None);
    for delivery in deliveries {
        match delivery {
            Delivery::Bytes(delivered) => {
                assert_eq!(*delivered, bytes[at as usize..at as usize + delivered.len()]);
                if let Some(cut) = left.take() {
                    begins.push((at, cut));
                }
                at += delivered.len() as u64;
            }
            Delivery::Joined(_, skipped) => {
                assert_eq!(skipped.start, at);
                (at, left) = (skipped.end, Some(None));
            }
            Delivery::Gap { from, to, .. } => {
                assert!(*from == at && to > from, "{delivery:?} at {at}");
                (at, left) = (*to, Some(Some(*from)));
            }
            Delivery::Header(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, bytes.len() as u64);
    begins
}

#[test]
fn without_a_loss_all_bytes_are_delivered_as_they_are() {
    for name in SAMPLES {
        let bytes = sample(name);
        let Known { format, header, points, .. } = known(&bytes);
        for sizes in [&[1][..], &[7, 500], &[100_000]] {
            for format in [None, Some(format)] {
                let all = pass(Joiner::from_begin(format), &bytes, 0, sizes, &[]);
                assert_eq!(begins(&bytes, 0, &all), [], "{name}");
            }
            let point = *points.iter().nth(points.len() / 2).unwrap();
            let joiner = Joiner::from_sync_point(format, header.clone(), point);
            let rest = pass(joiner, &bytes, point as usize, sizes, &[]);
            assert_eq!(begins(&bytes, point, &rest), [], "{name}");
        }
    }
}

#[test]
fn a_reader_that_searches_delivers_from_the_first_sync_point_on() {
    // A reader of WAV never searches, because all sync points follow from the header.
    for name in SAMPLES.into_iter().filter(|name| *name != "audio.wav") {
        let bytes = sample(name);
        let Known { format, header, points, .. } = known(&bytes);
        // Behind the second sync point: the first one found is a later one.
        let from = points.iter().nth(1).unwrap() + 10;
        let next = points.iter().copied().find(|point| *point >= from);
        let joiner = Joiner::searching(format, header.clone(), from);
        let rest = pass(joiner, &bytes, from as usize, &[64, 1000], &[]);
        let Delivery::Joined(found, _) = &rest[0] else { panic!("{name}: {:?}", rest[0]) };
        assert_eq!(found.len(), header.len(), "{name}: the whole header");
        let found = begins(&bytes, from, &rest);
        // An access unit of Annex B can begin with each of its parameter sets.
        let is_weak = matches!(format, Format::H264 | Format::Hevc);
        assert!(is_weak || found == [(next.unwrap(), None)], "{name}: {found:?} {next:?}");
        assert_eq!(found.len(), 1, "{name}");
    }
}

#[test]
fn a_reader_that_searches_gets_the_whole_header_wherever_it_begins() {
    for name in ["video.264", "video.265", "video.ts"] {
        let bytes = sample(name);
        let Known { format, header, .. } = known(&bytes);
        for from in (header.len()..bytes.len() * 3 / 4).step_by(3) {
            let joiner = Joiner::searching(format, header.clone(), from as u64);
            let rest = pass(joiner, &bytes, from, &[1000], &[]);
            let Delivery::Joined(found, skipped) = &rest[0] else { panic!("{:?}", rest[0]) };
            let is_found = skipped.end < bytes.len() as u64;
            // The first zero of a start code may be missing.
            assert!(!is_found || found.len() + 1 >= header.len(), "{name} from {from}");
        }
    }
}

#[test]
fn the_contents_of_an_unknown_format_and_broken_ones_pass_through() {
    let text = "2026-12-01 INFO nothing\n".repeat(1000).into_bytes();
    let lost = [(500, 700)];
    let all = pass(Joiner::from_begin(None), &text, 0, &[100], &lost);
    assert_eq!(begins(&text, 0, &all), [(700, Some(500))]);
    let mut broken = sample("video.mkv");
    broken.truncate(5000);
    broken.extend([0; 5000]);
    let all = pass(Joiner::from_begin(None), &broken, 0, &[100], &[(7000, 7100)]);
    assert_eq!(begins(&broken, 0, &all), [(7100, Some(7000))]);
}

#[test]
fn a_unit_that_is_too_large_is_delivered_as_it_arrives_and_the_next_ones_are_whole() {
    const PART: usize = 1024 * 1024;
    const MOST: u64 = 17 * PART as u64;
    let sample = sample("fragments.mp4");
    let begin = sample.windows(4).position(|it| it == b"moof").unwrap() - 4;
    // A box that belongs to the next fragment, a box of samples, and one without an end.
    for (kind, size) in [(b"sidx", 1 << 30), (b"mdat", 1 << 30), (b"mdat", 0)] {
        let large = [&sample[..begin], &u32::to_be_bytes(size), kind].concat();
        let (mut joiner, mut out) = (Joiner::from_begin(None), VecDeque::new());
        joiner.chunk(Bytes::from(large.clone()), &mut out);
        for part in 1..=40 {
            joiner.chunk(Bytes::from(vec![7; PART]), &mut out);
            let received = large.len() as u64 + part * PART as u64;
            assert!(received - joiner.position() <= MOST, "held in memory");
        }
        out.clear();
        // A writer starts over, and a part of its second fragment is lost.
        let begun = large.len() as u64 + 40 * PART as u64;
        let cuts = known(&sample).cuts;
        let cut = *cuts.iter().nth(2).unwrap();
        joiner.chunk(Bytes::copy_from_slice(&sample[..cut as usize + 50]), &mut out);
        let lost = begun + cut + 50;
        joiner.gap(lost, lost + 10, 1, &mut out);
        joiner.end(&mut out);
        let gap = Delivery::Gap { from: begun + cut, to: lost + 10, chunks: 1 };
        assert_eq!(out.back(), Some(&gap), "{kind:?} {size}");
    }
}

#[test]
fn a_reader_gets_the_header_of_the_sync_point_and_not_a_later_one() {
    let [one, other] = ["vorbis.ogg", "opus.ogg"].map(sample);
    let Known { format, header, points, .. } = known(&one);
    let both = [one, other].concat();
    let from = points.iter().nth(2).unwrap() + 10;
    let (mut joiner, mut out) = (Joiner::searching(format, header.clone(), from), VecDeque::new());
    joiner.part(Bytes::copy_from_slice(&both[from as usize..]), &mut out);
    let next = *points.iter().find(|point| **point >= from).unwrap();
    assert_eq!(out[0], Delivery::Joined(header, from..next));
}

#[test]
fn text_continues_with_a_whole_line_after_a_loss() {
    let text = "2026-12-01 INFO nothing\n".repeat(1000).into_bytes();
    let lost = [(500, 700), (1005, 1010)];
    for joiner in [
        Joiner::from_begin(Some(Format::Lines)),
        Joiner::from_begin(Some(Format::Csv)),
        Joiner::from_begin(None).or(Format::Lines),
    ] {
        let all = pass(joiner, &text, 0, &[100], &lost);
        assert_eq!(begins(&text, 0, &all), [(720, Some(500)), (1032, Some(1005))]);
    }
    let csv = Joiner::searching(Format::Csv, Bytes::from_static(b"time,text\n"), 1000);
    let rest = pass(csv, &text, 1000, &[7], &[]);
    assert_eq!(rest[0], Delivery::Joined(Bytes::from_static(b"time,text\n"), 1000..1008));
}

#[test]
fn a_writer_that_starts_over_is_reported_where_decoders_accept_no_second_header() {
    for (one, other, is_reported) in [
        ("video.mkv", "video.webm", true),
        ("video.mkv", "video.mkv", true),
        ("fragments.mp4", "frames.mp4", true),
        ("video.flv", "video.mkv", true),
        ("audio.wav", "audio.wav", true),
        ("vorbis.ogg", "opus.ogg", false),
    ] {
        let [mut one, other] = [one, other].map(sample);
        // The first writer dies in the middle of something.
        one.truncate(one.len() * 3 / 4);
        let (mut joiner, mut out) = (Joiner::from_begin(None), VecDeque::new());
        for chunk in one.chunks(1000).chain(other.chunks(1000)) {
            joiner.chunk(Bytes::copy_from_slice(chunk), &mut out);
        }
        joiner.end(&mut out);
        let mut got = Vec::new();
        let mut changes = Vec::new();
        for delivery in out {
            match delivery {
                Delivery::Bytes(bytes) => got.extend(bytes),
                Delivery::FormatChanged(at) => {
                    assert_eq!(at, got.len() as u64, "reported before the new header");
                    changes.push(at as usize);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, [&*one, &other].concat());
        assert_eq!(changes, if is_reported { vec![one.len()] } else { vec![] });
    }
}

proptest! {
    #[test]
    fn after_a_loss_a_reader_continues_at_a_sync_point_and_everything_left_out_is_in_the_gap(
        which in 0..SAMPLES.len(),
        losses in prop::collection::vec((0.0..1.0, 1usize..3000), 1..4),
        sizes in prop::collection::vec(1usize..2000, 1..5),
    ) {
        let bytes = sample(SAMPLES[which]);
        let Known { format, points, cuts, .. } = known(&bytes);
        let mut lost: Vec<(usize, usize)> = losses
            .iter()
            .map(|(at, len)| ((at * bytes.len() as f64) as usize, *len))
            .map(|(at, len)| (at.max(1), (at + len).min(bytes.len())))
            .collect();
        lost.sort();
        let all = pass(Joiner::from_begin(Some(format)), &bytes, 0, &sizes, &lost);
        for (begin, cut) in begins(&bytes, 0, &all) {
            let is_point = points.contains(&begin);
            // Formats without a checksum may have a frame inside a frame, and an access unit of
            // Annex B can begin with each of its parameter sets.
            let is_weak = matches!(
                format,
                Format::Mp3 | Format::Adts | Format::Ac3 | Format::Mjpeg | Format::H264 | Format::Hevc
            );
            // A loss before the header is known to be complete ends the parsing.
            let is_known = lost[0].0 as u64 > *points.first().unwrap() + 100;
            prop_assert!(is_point || is_weak || !is_known, "{}: {}", SAMPLES[which], begin);
            if let (Some(cut), Format::Mp4 | Format::Y4m, true) = (cut, format, is_known) {
                prop_assert!(cuts.contains(&cut), "{} {:?}", cut, cuts);
            }
        }
    }
}
