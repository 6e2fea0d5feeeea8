//! Readers that join media in the middle or lose bytes of it get what a decoder can use. These
//! tests check formats that need no decoder; `programs::ffmpeg` decodes all formats.

use std::io::Read;

use harness::{Daemon, Running, Transport, eventually, gaps, kept, noise};
use serde_json::json;

const S: &str = "/streamfs/s";

const KIB: usize = 1024;

/// Line before the first picture.
const HEADER: &[u8] = b"YUV4MPEG2 W160 H120 F25:1 C420jpeg\n";

/// Bytes of a picture with the line before it.
const PICTURE: usize = 6 + 160 * 120 * 3 / 2;

harness::per_transport! {
    a_reader_that_joins_gets_the_header_and_the_stream_from_a_picture_on,
    raw_bytes_and_an_offset_are_exact,
    an_offset_that_is_lost_is_followed_by_the_oldest_chunk_and_not_by_a_sync_point,
    a_reader_that_starts_with_the_first_byte_gets_exactly_the_stream,
    text_is_joined_anywhere,
    sync_starts_text_with_a_whole_line_and_csv_with_its_first_line,
    a_reader_waits_for_a_picture_if_the_ring_holds_none,
    a_loss_ends_where_a_picture_begins,
    a_loss_takes_only_whole_fragments_of_mp4,
    a_writer_that_starts_over_is_reported,
    stat_shows_the_format_the_header_and_the_last_sync_point,
}

/// Uncompressed video: a decoder can start at each picture.
fn video(seed: u64, pictures: usize) -> Vec<u8> {
    let mut film = HEADER.to_vec();
    for picture in noise(seed, pictures * (PICTURE - 6)).chunks(PICTURE - 6) {
        film.extend_from_slice(b"FRAME\n");
        film.extend_from_slice(picture);
    }
    film
}

fn begins_picture(offset: u64) -> bool {
    (offset - HEADER.len() as u64).is_multiple_of(PICTURE as u64)
}

fn sample(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../pfs-media/tests/samples");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

fn write(daemon: &Daemon, bytes: &[u8]) {
    daemon
        .pfs(["write", "--stream", "--chunk-size", "1000", S])
        .stdin(bytes)
        .run()
        .exits(0)
        .quietly();
}

/// Prints what the stream holds. Returns the output and the messages.
#[track_caller]
fn read<const N: usize>(daemon: &Daemon, args: [&str; N]) -> (Vec<u8>, String) {
    let cat = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).args(args);
    let run = cat.run().exits(0);
    (run.stdout, run.stderr)
}

/// Creates a stream whose ring holds a good part of the film, and writes the film.
fn daemon_with(transport: Transport, film: &[u8]) -> Daemon {
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 256 * 1024, 256 * 1024);
    write(&daemon, film);
    daemon
}

fn a_reader_that_joins_gets_the_header_and_the_stream_from_a_picture_on(transport: Transport) {
    let film = video(1, 40);
    let daemon = daemon_with(transport, &film);
    let tail = daemon.stat_number(S, "tail");
    let first = (tail..).find(|offset| begins_picture(*offset)).unwrap();
    let (oldest, said) = read(&daemon, []);
    assert!(oldest == [HEADER, &film[first as usize..]].concat());
    let skipped = format!("{} bytes, skipped bytes ", HEADER.len());
    assert!(said.contains(&format!("joined {S} at offset {first}: header of {skipped}")), "{said}");
    let latest = film.len() - PICTURE;
    assert!(read(&daemon, ["--new"]).0 == [HEADER, &film[latest..]].concat());
    assert!(read(&daemon, ["--tail", "40000"]).0 == [HEADER, &film[latest - PICTURE..]].concat());
    assert!(
        read(&daemon, ["--since", "1h"]).0 == oldest,
        "no picture begins before all that is held"
    );
    assert!(read(&daemon, ["-q"]).1.is_empty());
}

fn raw_bytes_and_an_offset_are_exact(transport: Transport) {
    let film = video(2, 40);
    let daemon = daemon_with(transport, &film);
    let tail = daemon.stat_number(S, "tail") as usize;
    let exact = |args: [&str; 2]| {
        let (bytes, said) = read(&daemon, args);
        assert_eq!(said, "");
        bytes
    };
    assert!(exact(["--join", "raw"]) == film[tail..]);
    assert!(exact(["--offset", &(tail + 10).to_string()]) == film[tail + 10..]);
    let raw = daemon.pfs(["cat", "--join", "raw", "--tail", "5000", "--until", "caught-up", S]);
    assert!(raw.run().exits(0).quietly().stdout == film[film.len() - 5000..]);
}

fn an_offset_that_is_lost_is_followed_by_the_oldest_chunk_and_not_by_a_sync_point(
    transport: Transport,
) {
    // Each format finds its sync points in its own way; MPEG-TS needs nothing of the beginning.
    let film = sample("video.ts");
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 8192, 8192);
    write(&daemon, &film);
    let tail = daemon.stat_number(S, "tail");
    for offset in [0, 1] {
        let cat = daemon.pfs(["cat", "--until", "caught-up", "--offset", &offset.to_string(), S]);
        let run = cat.run().exits(4);
        let gap = &gaps(&run.stderr)[0];
        assert_eq!((gap.from, gap.to), (offset, tail));
        assert!(run.stdout == film[tail as usize..]);
    }
}

fn a_reader_that_starts_with_the_first_byte_gets_exactly_the_stream(transport: Transport) {
    let film = video(3, 8);
    let daemon = transport.daemon_with_http();
    daemon.create(S);
    let early = daemon.reader(S, []);
    write(&daemon, &film);
    for args in [[""; 0].as_slice(), &["--tail", "1G"], &["--offset", "0"]] {
        let cat = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).args(args);
        assert!(cat.run().exits(0).quietly().stdout == film, "{args:?}");
    }
    daemon.close(S);
    assert!(early.finish().exits(0).quietly().stdout == film);
}

fn text_is_joined_anywhere(transport: Transport) {
    let text = "2026-12-01T00:00:00Z INFO nothing has happened\n".repeat(20_000).into_bytes();
    let daemon = daemon_with(transport, &text);
    let tail = daemon.stat_number(S, "tail") as usize;
    let (bytes, said) = read(&daemon, []);
    assert!(tail > 0 && bytes == text[tail..] && said.is_empty(), "{said}");
}

fn sync_starts_text_with_a_whole_line_and_csv_with_its_first_line(transport: Transport) {
    let text: String = (0..40_000).map(|n| format!("line {n} of a log\n")).collect();
    let daemon = daemon_with(transport, text.as_bytes());
    let tail = daemon.stat_number(S, "tail") as usize;
    let next = |from: usize| from + text[from..].find('\n').unwrap() + 1;
    let (bytes, said) = read(&daemon, ["--join", "sync"]);
    assert!(tail > 0 && bytes == text.as_bytes()[next(tail)..], "{said}");
    assert!(said.contains(&format!("joined {S} at offset {}: ", next(tail))), "{said}");
    let near = text[..text.len() - 1000].rfind('\n').unwrap() + 1;
    let (bytes, _) = read(&daemon, ["--join", "sync", "--tail", "1000"]);
    assert!(bytes == text.as_bytes()[near..]);
    assert!(read(&daemon, ["--join", "sync", "--new"]).0.is_empty());

    daemon.remove(S);
    let sizes = ["--ring-buffer-size", "256K", "--channel-buffer-size", "256K"];
    daemon.pfs(["create", "--content-type", "text/csv", S]).args(sizes).run().exits(0);
    let csv = format!("number,text\n{text}");
    write(&daemon, csv.as_bytes());
    let (bytes, said) = read(&daemon, ["--join", "sync", "--tail", "1000"]);
    let near = csv[..csv.len() - 1000].rfind('\n').unwrap() + 1;
    assert!(bytes == [b"number,text\n", &csv.as_bytes()[near..]].concat(), "{said}");
    let url = daemon.get(&format!("{S}?join=sync&tail=1000&until=caught-up")).has(200);
    assert!(url.body == bytes && url.header("pfs-header-bytes") == Some("12"));
    assert!(read(&daemon, ["--tail", "1000"]).0 == csv.as_bytes()[csv.len() - 1000..]);
}

fn a_reader_waits_for_a_picture_if_the_ring_holds_none(transport: Transport) {
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 16 * 1024, 16 * 1024);
    let film = video(4, 4);
    let (before, after) = film.split_at(HEADER.len() + 2 * PICTURE - 5000);
    write(&daemon, before);
    let reader = daemon.reader_on(transport, S, ["--slow", "block"]);
    write(&daemon, after);
    daemon.close(S);
    let run = reader.finish().exits(0).says("joined");
    assert!(run.stdout == [HEADER, &film[HEADER.len() + 2 * PICTURE..]].concat());
}

/// Waits until the reader has the beginning of the stream.
#[track_caller]
fn has_begun(daemon: &Daemon, reader: &Running) {
    let head = daemon.head(S);
    eventually("the reader has the header", || {
        daemon.reader_stat(S, reader.pid()).unwrap()["position"] == head
    });
}

fn a_loss_ends_where_a_picture_begins(transport: Transport) {
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 256 * 1024, 256 * 1024);
    let mut reader = daemon.piped_reader(S, []);
    let mut writer = daemon.appender(S);
    let mut film = video(5, 200);
    writer.append(&film[..PICTURE], KIB);
    has_begun(&daemon, &reader);
    writer.append(&film[PICTURE..], KIB);
    let more = video(6, 40);
    // Append until the reader has lost something, and then more.
    while !daemon.all_have_lost(S) {
        film.extend_from_slice(&more[HEADER.len()..]);
        writer.append(&more[HEADER.len()..], KIB);
    }
    film.extend_from_slice(&more[HEADER.len()..]);
    writer.append(&more[HEADER.len()..], KIB);
    writer.close();
    let mut output = Vec::new();
    reader.take_stdout().read_to_end(&mut output).unwrap();
    let gaps = gaps(&reader.finish().exits(4).stderr);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| begins_picture(gap.to)), "{gaps:?}");
    assert!(output == kept(&film, 0, &gaps));
}

fn a_loss_takes_only_whole_fragments_of_mp4(transport: Transport) {
    let sample = sample("fragments.mp4");
    let begin = sample.windows(4).position(|it| it == b"moof").unwrap() - 4;
    let (header, fragments) = sample.split_at(begin);
    let mut cuts = vec![begin as u64];
    let mut film = header.to_vec();
    let add = |film: &mut Vec<u8>, writer: &mut harness::Appender| {
        for _ in 0..200 {
            film.extend_from_slice(fragments);
            writer.append(fragments, KIB);
        }
    };
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 256 * 1024, 256 * 1024);
    let mut reader = daemon.piped_reader(S, []);
    let mut writer = daemon.appender(S);
    writer.append(header, KIB);
    has_begun(&daemon, &reader);
    add(&mut film, &mut writer);
    while !daemon.all_have_lost(S) {
        add(&mut film, &mut writer);
    }
    add(&mut film, &mut writer);
    writer.close();
    let mut at = begin;
    while let Some(size) = film.get(at..at + 4) {
        at += u32::from_be_bytes(size.try_into().unwrap()) as usize;
        let is_fragment = film.get(at + 4..at + 8).is_none_or(|kind| kind != b"mdat");
        cuts.extend(is_fragment.then_some(at as u64));
    }
    let mut output = Vec::new();
    reader.take_stdout().read_to_end(&mut output).unwrap();
    let gaps = gaps(&reader.finish().exits(4).stderr);
    let is_whole = |offset: &u64| cuts.binary_search(offset).is_ok();
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| is_whole(&gap.from) && is_whole(&gap.to)));
    assert!(output == kept(&film, 0, &gaps));
}

fn a_writer_that_starts_over_is_reported(transport: Transport) {
    let [mut one, other] = ["video.mkv", "video.webm"].map(sample);
    // The first writer dies in the middle of a picture.
    one.truncate(one.len() * 2 / 3);
    let daemon = transport.daemon_with_http();
    daemon.create(S);
    let [all, first] = [["--join", "auto"], ["--until", "format-change"]]
        .map(|args| daemon.reader_on(transport, S, args));
    write(&daemon, &one);
    eventually("the first reader has it", || all.stdout_len() == one.len() as u64);
    write(&daemon, &other);
    assert!(first.finish().exits(0).quietly().stdout == one);
    daemon.close(S);
    let run = all.finish().exits(0).says("started over with a new header at offset");
    assert!(run.stdout == [&*one, &other].concat());
    // A reader that joins now gets nothing of the first film.
    let late = daemon.pfs(["cat", "--new", S]).run().exits(0);
    assert!(late.stdout.starts_with(&other[..30]) && late.stdout.len() < other.len());
}

fn stat_shows_the_format_the_header_and_the_last_sync_point(transport: Transport) {
    let film = video(8, 40);
    let daemon = daemon_with(transport, &film);
    let last = film.len() - PICTURE;
    let stat = daemon.stat(S).unwrap();
    let media = &stat["media"];
    assert_eq!(
        [&media["format"], &media["header_bytes"], &media["last_sync"], &media["gop_bytes"]],
        [&json!("YUV4MPEG2"), &json!(HEADER.len()), &json!(last), &json!(PICTURE)]
    );
    let said = daemon.pfs(["stat", S]).run().exits(0);
    let header = HEADER.len();
    let line = format!("YUV4MPEG2, header {header} B, last sync point at {last}, GOP 28.1 KiB");
    assert!(said.text().contains(&line), "{}", said.text());
    daemon.append("/streamfs/text", "text");
    assert!(daemon.stat("/streamfs/text").unwrap()["media"].is_null());
}

#[test]
fn a_writer_may_name_the_media_type_of_the_stream_that_it_creates() {
    let daemon = Daemon::with_http();
    let write = |args: &[&str], stream: &str, input: &str| {
        let write = daemon.pfs(["write", stream]).args(args).stdin(input);
        write.run().exits(0).quietly();
        daemon.stat(stream).unwrap()["content_type"].clone()
    };
    let csv = ["--content-type", "text/csv"];
    for (nth, args) in [&[][..], &["--stream"], &["--lines"]].into_iter().enumerate() {
        let stream = format!("/streamfs/{nth}");
        assert_eq!(write(&[&csv, args].concat(), &stream, "a,b\n"), "text/csv", "{args:?}");
        let other = [&["--content-type", "text/plain"], args].concat();
        assert_eq!(write(&other, &stream, "1,2\n"), "text/csv", "an existing stream keeps its own");
        let replaced = [&other[..], &["--replace"]].concat();
        assert_eq!(write(&replaced, &stream, "x\n"), "text/plain");
        assert_eq!(daemon.head(&stream), 2, "only the new contents");
    }
    let refused = daemon.pfs(["write", "--content-type", "", "/streamfs/t"]).stdin("x");
    refused.run().exits(2).says("content type");
    assert_eq!(daemon.stat("/streamfs/t"), None);
}

#[test]
fn a_reader_of_exact_bytes_cannot_end_at_a_new_header() {
    let daemon = Daemon::with_http();
    for args in [["--join", "raw"], ["--offset", "0"]] {
        let cat = daemon.pfs(["cat", "--until", "format-change", S]).args(args);
        cat.run().exits(2).says("leave out --join raw and --offset");
    }
}

#[test]
fn a_url_gives_the_header_and_says_what_was_skipped_and_a_range_is_exact() {
    let film = video(7, 40);
    let daemon = daemon_with(Transport::Http, &film);
    let tail = daemon.stat_number(S, "tail") as usize;
    let first = (tail..).find(|offset| begins_picture(*offset as u64)).unwrap();
    let joined = daemon.get(&format!("{S}?until=caught-up")).has(200);
    assert!(joined.body == [HEADER, &film[first..]].concat());
    assert_eq!(joined.header("pfs-start"), Some(first.to_string().as_str()));
    assert_eq!(joined.header("pfs-header-bytes"), Some(HEADER.len().to_string().as_str()));
    assert_eq!(joined.header("pfs-skipped"), Some(format!("{tail}..{first}").as_str()));
    assert_eq!(joined.header("content-type"), Some("video/x-yuv4mpeg"));
    for (query, from) in [("join=raw".to_owned(), tail), (format!("from={}", tail + 1), tail + 1)] {
        let exact = daemon.get(&format!("{S}?{query}&until=caught-up")).has(200);
        assert!(exact.body == film[from..], "{query}");
        assert_eq!(exact.header("pfs-header-bytes"), None);
    }
    let mut connection = daemon.http();
    let range = format!("bytes={}-{}", tail + 5, tail + 104);
    connection.request("GET", S, &[("range", &range)], None);
    assert!(connection.response().has(206).body == film[tail + 5..tail + 105]);
    // A range of everything is no range on an open stream.
    let all = [("range", "bytes=0-")];
    connection.request("GET", &format!("{S}?until=caught-up"), &all, None);
    assert!(connection.response().has(200).body == joined.body);
}
