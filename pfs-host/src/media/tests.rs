use std::fs::read;

use bytes::Bytes;
use pfs_media::{Indexer, Mark};
use pfs_proto::Start;
use pfs_stream::{Limits, Registry, Sink, StreamConfig, Writer};

use super::*;

/// Bytes of a chunk. The samples have 4 to 20 KB.
const CHUNK: usize = 100;

fn sample(name: &str) -> Vec<u8> {
    read(format!("{}/../pfs-media/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn config(ring: u64) -> StreamConfig {
    StreamConfig { ring_buffer_size: ring, channel_buffer_size: ring, ..StreamConfig::default() }
}

/// Appends in chunks, and updates the index after each, as the session of a writer does.
fn write(stream: &Stream, bytes: &[u8]) -> Indexing {
    let (mut writer, mut indexing) = (stream.writer().unwrap(), Indexing::default());
    append(&mut writer, &mut indexing, bytes);
    indexing
}

fn append(writer: &mut Writer, indexing: &mut Indexing, bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
        writer.try_append(chunk).unwrap();
        indexing.appended(|| writer.stream(), chunk.len() as u64, writer.offset());
    }
}

fn join(stream: &Stream, start: Start) -> Option<Joined> {
    let index = Index::of(stream)?;
    index.complete_now(stream);
    index.join(stream, start).unwrap()
}

/// What a reader gets that joins in this way.
fn joined(stream: &Stream, join: &Joined) -> Vec<u8> {
    let mut run = Run::default();
    run.buffer().extend_from_slice(&join.header);
    let mut scan = stream.scan(join.start.unwrap()).unwrap();
    while let Some(read) = scan.read(&mut run, 4096).unwrap() {
        assert!(matches!(read, Read::Data { .. }), "{read:?}");
    }
    run.bytes
}

fn decodes(format: Option<Format>, bytes: &[u8], header: &Bytes) -> bool {
    let mut marks = Vec::new();
    Indexer::new(format.unwrap(), 0).feed(bytes, &mut marks).unwrap();
    let first = marks.iter().find_map(|mark| match mark {
        Mark::Sync(at) | Mark::SyncEvery(at, _) => Some(*at),
        _ => None,
    });
    first == Some(header.len() as u64) || header.is_empty()
}

const NAMES: [&str; 11] = [
    "video.ts",
    "video.mkv",
    "video.webm",
    "fragments.mp4",
    "video.flv",
    "vorbis.ogg",
    "audio.flac",
    "audio.wav",
    "audio.mp3",
    "video.mjpeg",
    "audio.ac3",
];

#[test]
fn a_late_joiner_gets_the_header_and_all_that_the_ring_holds_from_its_oldest_sync_point_on() {
    for name in NAMES {
        let bytes = sample(name);
        let stream = Stream::new("s", config(bytes.len() as u64 / 2)).unwrap();
        write(&stream, &bytes);
        let tail = stream.extent().tail;
        assert!(tail > 0, "{name}");
        let oldest = join(&stream, Start::Oldest).unwrap();
        assert!((tail..=oldest.start.unwrap()).contains(&oldest.place), "{name}: {oldest:?}");
        let got = joined(&stream, &oldest);
        assert!(got.ends_with(&bytes[bytes.len() - 100..]), "{name}");
        assert!(decodes(oldest.format, &got, &oldest.header), "{name}");
        let newest = join(&stream, Start::New).unwrap();
        assert!(oldest.start <= newest.start && newest.start.unwrap() <= bytes.len() as u64);
        assert!(decodes(newest.format, &joined(&stream, &newest), &newest.header), "{name}");
        let near = join(&stream, Start::Tail(bytes.len() as u64 / 5)).unwrap();
        assert!((oldest.start..=newest.start).contains(&near.start), "{name}");
        assert!(near.start.unwrap() <= near.place || near.start == oldest.start);
        assert_eq!(join(&stream, Start::Offset(tail)), None, "{name}: exact bytes were asked for");
    }
}

#[test]
fn a_reader_that_starts_at_the_beginning_gets_the_exact_bytes() {
    for name in NAMES {
        let bytes = sample(name);
        let stream = Stream::new("s", config(4 * bytes.len() as u64)).unwrap();
        write(&stream, &bytes);
        for start in [Start::Oldest, Start::Tail(u64::MAX)] {
            let from_begin = join(&stream, start).unwrap();
            assert_eq!((from_begin.header.len(), from_begin.start), (0, Some(0)), "{name}");
        }
    }
}

#[test]
fn sync_points_are_found_although_most_of_the_stream_was_overwritten_unseen() {
    for name in ["video.ts", "video.mkv", "fragments.mp4", "vorbis.ogg", "audio.mp3"] {
        let bytes = sample(name);
        let stream = Stream::new("s", config(bytes.len() as u64 / 2)).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut indexing = Indexing::default();
        let (first, rest) = bytes.split_at(bytes.len() / 4);
        append(&mut writer, &mut indexing, first);
        for chunk in rest.chunks(CHUNK) {
            writer.try_append(chunk).unwrap();
        }
        let oldest = join(&stream, Start::Oldest).unwrap();
        assert!(oldest.start.is_some(), "{name}: {oldest:?}");
        let got = joined(&stream, &oldest);
        assert!(decodes(oldest.format, &got, &oldest.header), "{name}");
    }
}

#[test]
fn a_reader_joins_a_writer_that_started_over_with_its_own_header() {
    let [one, other] = ["video.mkv", "video.webm"].map(sample);
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    // The first writer dies in the middle of an element.
    write(&stream, &one[..one.len() * 2 / 3]);
    let before = join(&stream, Start::New).unwrap();
    write(&stream, &other);
    for start in [Start::Oldest, Start::New] {
        let after = join(&stream, start).unwrap();
        assert_ne!(before.header, after.header);
        let got = joined(&stream, &after);
        assert!(decodes(after.format, &got, &after.header));
    }
}

/// The pages of an Ogg file.
fn pages(file: &[u8]) -> Vec<&[u8]> {
    let starts = file.windows(4).enumerate().filter(|(_, it)| *it == b"OggS").map(|(at, _)| at);
    let starts: Vec<usize> = starts.chain([file.len()]).collect();
    starts.windows(2).map(|page| &file[page[0]..page[1]]).collect()
}

#[test]
fn a_second_writer_of_several_tracks_has_a_header_of_all_of_them() {
    let [one, other] = ["vorbis.ogg", "opus.ogg"].map(sample);
    let (one, other) = (pages(&one), pages(&other));
    // Both tracks begin before either goes on; each page is a chunk of its own.
    let all = [&one[..1], &other[..1], &one[1..], &other[1..]].concat();
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    for _ in 0..2 {
        let (mut writer, mut indexing) = (stream.writer().unwrap(), Indexing::default());
        for page in &all {
            writer.try_append(page).unwrap();
            indexing.appended(|| writer.stream(), page.len() as u64, writer.offset());
        }
        let header = join(&stream, Start::New).unwrap().header;
        assert!(header.starts_with(&[one[0], other[0]].concat()), "{} bytes", header.len());
    }
}

#[test]
fn a_stream_without_a_known_format_gets_no_index() {
    let stream = Stream::new("s", config(4096)).unwrap();
    let indexing = write(&stream, &b"2026-12-01 INFO nothing\n".repeat(1000));
    assert!(matches!(indexing, Indexing::Off));
    // Another writer does not look at the beginning again.
    assert!(matches!(write(&stream, &sample("video.mkv")), Indexing::Off));
    assert!(Index::of(&stream).is_none() && stream.content_type().is_none());
}

#[test]
fn the_media_type_names_the_format_or_else_is_recognised() {
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    write(&stream, &sample("video.webm"));
    assert_eq!(stream.content_type(), Some("video/webm"));
    let stream =
        Stream::new("s", config(64 * 1024).content_type("video/mp2t; charset=binary")).unwrap();
    write(&stream, &sample("video.ts")[100..]);
    assert!(join(&stream, Start::New).unwrap().start.is_some(), "the beginning is not recognised");
    assert_eq!(stream.content_type(), Some("video/mp2t; charset=binary"));
}

#[test]
fn an_index_is_charged_to_the_memory_of_the_stream_and_ends_without_memory() {
    let limits = Limits { max_memory: 1024 * 1024, ..Limits::default() };
    let registry = Registry::new(limits);
    let stream = registry.create("/s", config(256 * 1024)).unwrap();
    write(&stream, &sample("video.mkv"));
    assert!(join(&stream, Start::New).is_some());
    let with = registry.memory();
    assert_eq!(with, stream.stat().memory);
    // More than all the rest, so that the memory shows whether it was given back.
    assert!(stream.keep(2 * with));
    registry.remove_stream(&stream);
    assert!(registry.memory() <= with, "given back although the index still exists");
    assert!(Index::of(&stream).is_some() && !stream.keep(1));

    let registry = Registry::new(Limits { max_memory: 80 * 1024, ..limits });
    let full = registry.create("/full", config(32 * 1024)).unwrap();
    let moov = [&b"\0\0\0\x10ftypisom\0\0\0\0\0\x0f\0\0moov"[..], &vec![7; 200_000]].concat();
    write(&full, &moov);
    assert!(Index::of(&full).is_some());
    assert_eq!(join(&full, Start::New), None, "the index has no memory for so large a header");
    assert!(registry.memory() <= 80 * 1024);
}

#[test]
fn contents_that_break_the_format_turn_the_index_off() {
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    let mut broken = sample("video.mkv");
    let middle = broken.len() / 2;
    broken.truncate(middle);
    broken.extend([0; 50_000]);
    write(&stream, &broken);
    assert_eq!(join(&stream, Start::Oldest), None);
}

/// A writer that names its header and sync points.
struct Naming {
    writer: Writer,
    marks: Marks,
    chunks: u64,
}

impl Naming {
    fn new(stream: &Stream, header_bytes: u32) -> Self {
        let marks = Marks::new(header_bytes).unwrap();
        Self { writer: stream.writer().unwrap(), marks, chunks: 0 }
    }

    fn append(&mut self, chunk: &[u8]) {
        self.writer.try_append(chunk).unwrap();
        let stream = self.writer.stream();
        self.marks.appended(|| stream, self.chunks, chunk, self.writer.offset());
        self.chunks += 1;
    }

    fn append_marked(&mut self, chunk: &[u8]) {
        self.marks.mark(self.chunks);
        self.append(chunk);
    }
}

/// Appends chunks of 1000 bytes, each with its number in every byte. The chunks whose numbers are in
/// `marked` are sync points.
fn write_named(stream: &Stream, header_bytes: u32, chunks: u8, marked: &[u8]) {
    let mut naming = Naming::new(stream, header_bytes);
    for number in 0..chunks {
        if marked.contains(&number) {
            naming.append_marked(&[number; 1000]);
        } else {
            naming.append(&[number; 1000]);
        }
    }
}

/// Where a reader starts, and the header that it gets.
fn start(stream: &Stream, start: Start) -> (Option<u64>, Bytes) {
    let joined = join(stream, start).unwrap();
    assert_eq!(joined.format, None);
    (joined.start, joined.header)
}

#[test]
fn a_reader_of_a_writer_that_names_its_header_joins_at_any_chunk_after_the_header() {
    let stream = Stream::new("s", config(4096)).unwrap();
    write_named(&stream, 1500, 20, &[]);
    let (tail, header) = (stream.extent().tail, [&[0; 1000][..], &[1; 500]].concat());
    for (from, at) in [(Start::Oldest, tail), (Start::New, 20_000), (Start::Tail(1), 19_000)] {
        assert_eq!(start(&stream, from), (Some(at), header.clone().into()), "{from:?}");
    }
    // The next writer has a header of its own, which is in the stream.
    write_named(&stream, 1000, 1, &[]);
    assert_eq!(start(&stream, Start::Tail(1)), (Some(20_000), Bytes::new()), "with the header");
    assert_eq!(start(&stream, Start::New), (Some(21_000), vec![0; 1000].into()));
    assert_eq!(start(&stream, Start::Oldest).1, header, "before the new header");
    assert!(stream.stat().memory > 0 && stream.config().content_type.is_none());
}

#[test]
fn contents_in_one_chunk_with_their_header_are_read_with_it_as_long_as_the_ring_holds_it() {
    let stream = Stream::new("s", config(8192)).unwrap();
    write_named(&stream, 0, 7, &[]);
    let mut naming = Naming::new(&stream, 10);
    naming.append(&[1; 4000]);
    let (tail, begin) = (stream.extent().tail, 7000);
    assert!(tail > 0 && tail < begin);
    assert_eq!(start(&stream, Start::Tail(100)), (Some(begin), Bytes::new()));
    assert_eq!(join(&stream, Start::Oldest), None, "nothing is named before");
    naming.append(&[2; 4000]);
    assert_eq!(start(&stream, Start::Oldest), (Some(begin), Bytes::new()));
    naming.append(&[3; 4000]);
    assert_eq!(start(&stream, Start::Oldest), (Some(11_000), vec![1; 10].into()));
}

#[test]
fn a_header_in_several_chunks_is_never_mixed_with_the_one_before() {
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    write_named(&stream, 1000, 3, &[]);
    let mut naming = Naming::new(&stream, 2500);
    naming.append(&[7; 1000]);
    // The header is not complete, so a reader starts with it.
    assert_eq!(start(&stream, Start::New), (Some(3000), Bytes::new()));
    // A writer that leaves in the middle of its header names none.
    naming.marks.leave(&stream, 1);
    assert_eq!(start(&stream, Start::New), (Some(4000), vec![0; 1000].into()));
    let mut naming = Naming::new(&stream, 2500);
    for number in 7..10 {
        naming.append(&[number; 1000]);
    }
    for tail in [1, 1500, 2500, 3000] {
        assert_eq!(start(&stream, Start::Tail(tail)), (Some(4000), Bytes::new()), "{tail}");
    }
    let header = [[7; 1000], [8; 1000]].concat();
    assert_eq!(start(&stream, Start::New), (Some(7000), [&header[..], &[9; 500]].concat().into()));
}

#[tokio::test]
async fn a_reader_joins_at_a_sync_point_that_the_writer_marked() {
    let stream = Stream::new("s", config(8192)).unwrap();
    write_named(&stream, 700, 20, &[3, 14, 17]);
    let header = Bytes::from(vec![0; 700]);
    for (from, at) in [(Start::Oldest, 14_000), (Start::New, 17_000), (Start::Tail(4000), 14_000)] {
        assert_eq!(start(&stream, from), (Some(at), header.clone()), "{from:?}");
    }
    // The sync points are gone, so every reader starts with a whole chunk.
    write_named(&stream, 0, 20, &[]);
    let tail = stream.extent().tail;
    for (from, at) in [(Start::Oldest, tail), (Start::New, 40_000), (Start::Tail(3), 39_000)] {
        assert_eq!(start(&stream, from), (Some(at), header.clone()), "{from:?}");
    }
    let mut stat = stream.stat();
    describe(&stream, &mut stat).await;
    let media = stat.media.unwrap();
    assert_eq!((&*media.format, media.header_bytes, media.last_sync), ("custom", 700, None));
}

#[test]
fn a_marked_chunk_that_begins_with_the_header_gives_the_header_once() {
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    write_named(&stream, 0, 2, &[]);
    let mut naming = Naming::new(&stream, 6);
    naming.append_marked(b"HEADERkey0;");
    naming.append(b"delta0;");
    for from in [Start::New, Start::Tail(3), Start::Tail(14)] {
        assert_eq!(start(&stream, from), (Some(2000), Bytes::new()), "{from:?}");
    }
    naming.append_marked(b"key1;");
    assert_eq!(start(&stream, Start::New), (Some(2018), Bytes::from_static(b"HEADER")));
}

#[test]
fn a_late_mark_belongs_to_the_header_before_it_and_not_to_the_newest() {
    let stream = Stream::new("s", config(64 * 1024)).unwrap();
    write_named(&stream, 5, 3, &[]);
    let mut other = Naming::new(&stream, 6);
    other.append(b"HEADER");
    other.append(b"1;");
    Index::mark(&stream, 1000);
    assert_eq!(start(&stream, Start::Tail(1009)), (Some(1000), vec![0; 5].into()));
    assert_eq!(start(&stream, Start::Tail(1)), (Some(3006), Bytes::from_static(b"HEADER")));
}

#[test]
fn a_mark_does_not_keep_a_format_from_being_recognised_and_none_is_needed_there() {
    let bytes = sample("video.ts");
    let stream = Stream::new("s", config(4 * bytes.len() as u64)).unwrap();
    let (mut naming, mut indexing) = (Naming::new(&stream, 0), Indexing::default());
    for (number, packet) in bytes[..].chunks(188).enumerate() {
        if number % 10 == 0 {
            naming.append_marked(packet);
        } else {
            naming.append(packet);
        }
        indexing.appended(|| stream.clone(), packet.len() as u64, naming.writer.offset());
    }
    let joined = join(&stream, Start::New).unwrap();
    assert_eq!(joined.format, Some(Format::MpegTs));
    let unmarked = Stream::new("s", config(4 * bytes.len() as u64)).unwrap();
    write(&unmarked, &bytes);
    assert_eq!(join(&unmarked, Start::New).unwrap(), joined);
}

#[test]
fn a_writer_that_names_its_header_is_believed_whatever_the_contents_are() {
    let bytes = sample("video.mkv");
    let stream = Stream::new("s", config(4 * bytes.len() as u64)).unwrap();
    let (mut naming, mut indexing) = (Naming::new(&stream, 250), Indexing::default());
    for chunk in bytes[..].chunks(CHUNK) {
        naming.append(chunk);
        indexing.appended(|| stream.clone(), chunk.len() as u64, naming.writer.offset());
    }
    let last = (bytes.len() - 1) / CHUNK * CHUNK;
    let named = (Some(last as u64), Bytes::copy_from_slice(&bytes[..250]));
    assert_eq!(start(&stream, Start::Tail(1)), named);
}

#[test]
fn a_header_for_which_there_is_no_memory_gives_exact_bytes_and_never_an_empty_header() {
    let limits = Limits { max_memory: 128 * 1024, ..Limits::default() };
    let registry = Registry::new(limits);
    let stream = registry.create("/s", config(32 * 1024)).unwrap();
    let mut naming = Naming::new(&stream, 100_000);
    for _ in 0..120 {
        naming.append_marked(&[1; 1000]);
    }
    assert_eq!(join(&stream, Start::New), None);
    assert!(registry.memory() <= limits.max_memory);
    // A header for which there is memory is in effect from there on.
    write_named(&stream, 1000, 40, &[]);
    assert_eq!(start(&stream, Start::New).1.len(), 1000);
}

#[test]
fn the_same_header_of_many_writers_is_kept_once() {
    let registry = Registry::new(Limits::default());
    let stream = registry.create("/s", config(1024 * 1024).reserve(true)).unwrap();
    write_named(&stream, 10_000, 20, &[]);
    let once = stream.stat().memory;
    for _ in 0..10 {
        write_named(&stream, 10_000, 11, &[]);
    }
    assert!(stream.stat().memory < once + 5000, "{} and {once}", stream.stat().memory);
}

#[test]
fn marks_of_chunks_that_never_come_take_a_bounded_amount_of_memory() {
    let mut marks = Marks::new(0).unwrap();
    for number in 0..1_000_000 {
        marks.mark(number);
    }
    assert!(marks.pending() <= 1024);
    assert!(Marks::new(u32::MAX).is_err());
}
