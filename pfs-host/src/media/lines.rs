//! Joining text: a reader starts with a whole line.

use bytes::Bytes;
use memchr::{memchr, memrchr};
use pfs_media::Format;
use pfs_proto::Start;
use pfs_stream::{AttachError, Read, Stream};

use super::{Index, Joined, run::Run};

/// Bytes that are searched at a time.
const WINDOW_BYTES: u64 = 64 * 1024;

/// Bytes that are searched at most, in each direction. A reader for whom no line was found goes on
/// searching itself.
const MAX_SEARCHED_BYTES: u64 = 1024 * 1024;

/// Number of bytes before the start, or at the tail, that decide whether a stream without a media
/// type is text.
const SAMPLE_BYTES: u64 = 4096;

/// Returns how a reader of text with this start joins. `None` if the stream is not text, or if the
/// reader asks for an offset.
///
/// # Errors
///
/// [`AttachError::PastHead`].
pub(super) fn join(stream: &Stream, start: Start) -> Result<Option<Joined>, AttachError> {
    let place = stream.locate(start)?;
    let tail = stream.extent().tail;
    let named = stream.content_type().map(Format::from_content_type);
    let format = match named {
        Some(format) => format,
        None => {
            let sample = place.saturating_sub(SAMPLE_BYTES).max(tail);
            is_text(&read(stream, sample, SAMPLE_BYTES)).then_some(Format::Lines)
        }
    };
    let Some(format) = format.filter(|_| !matches!(start, Start::Offset(_))) else {
        return Ok(None);
    };
    let header = match format {
        Format::Lines => Bytes::new(),
        Format::Csv => Index::of(stream).and_then(|index| index.header()).unwrap_or_default(),
        _ => return Ok(None),
    };
    let found = match start {
        Start::Oldest => first_line(stream, place, tail),
        _ => last_line(stream, place, tail).or_else(|| first_line(stream, place, tail)),
    };
    // A reader that starts with the first line gets the header from the stream.
    let header = if found == Some(0) { Bytes::new() } else { header };
    Ok(Some(Joined { format: Some(format), header, place, start: found }))
}

/// Whether these bytes, which may begin and end inside a character, are text.
fn is_text(bytes: &[u8]) -> bool {
    let begin = bytes.iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
    let bytes = bytes.get(begin.min(3)..).unwrap_or_default();
    let is_utf8 = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    is_utf8 && !bytes.contains(&0)
}

/// The bytes at `from`, at most `most`. Empty if they are gone.
fn read(stream: &Stream, from: u64, most: u64) -> Vec<u8> {
    let mut run = Run::default();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if let Ok(mut scan) = stream.scan(from) {
        while let Some(left @ 1..) = most.checked_sub(run.bytes.len())
            && let Ok(Some(Read::Data { .. })) = scan.read(&mut run, left)
        {}
    }
    run.bytes.truncate(most);
    run.bytes
}

/// The first line that begins at `place` or later.
fn first_line(stream: &Stream, place: u64, tail: u64) -> Option<u64> {
    if place == 0 {
        return Some(0);
    }
    // A line begins at `place` if a newline is right before it.
    let mut from = if place > tail { place.saturating_sub(1) } else { place };
    let end = from.saturating_add(MAX_SEARCHED_BYTES);
    while from < end {
        let window = read(stream, from, WINDOW_BYTES);
        if window.is_empty() {
            return None;
        }
        if let Some(newline) = memchr(b'\n', &window) {
            return Some(from.saturating_add(newline as u64).saturating_add(1));
        }
        from = from.saturating_add(window.len() as u64);
    }
    None
}

/// The last line that begins at `place` or earlier.
fn last_line(stream: &Stream, place: u64, tail: u64) -> Option<u64> {
    let mut to = place;
    let begin = place.saturating_sub(MAX_SEARCHED_BYTES).max(tail);
    while to > begin {
        let from = to.saturating_sub(WINDOW_BYTES).max(begin);
        let window = read(stream, from, to.saturating_sub(from));
        if let Some(newline) = memrchr(b'\n', &window) {
            return Some(from.saturating_add(newline as u64).saturating_add(1));
        }
        to = from;
    }
    (begin == 0).then_some(0)
}

#[cfg(test)]
mod tests {
    use pfs_stream::StreamConfig;

    use super::*;

    /// A stream with these chunks.
    fn stream(content_type: Option<&str>, chunks: &[&str]) -> Stream {
        let config = StreamConfig {
            ring_buffer_size: 4096,
            channel_buffer_size: 4096,
            content_type: content_type.map(str::to_owned),
            ..StreamConfig::default()
        };
        let stream = Stream::new("s", config).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut indexing = super::super::Indexing::default();
        for chunk in chunks {
            writer.try_append(chunk).unwrap();
            indexing.appended(|| stream.clone(), chunk.len() as u64, writer.offset());
        }
        stream
    }

    fn at(stream: &Stream, start: Start) -> Option<u64> {
        join(stream, start).unwrap().unwrap().start
    }

    #[test]
    fn a_reader_starts_with_a_whole_line_wherever_chunks_begin() {
        let stream = stream(None, &["one\ntw", "o\nthree", "\nfour"]);
        assert_eq!(at(&stream, Start::Oldest), Some(0));
        assert_eq!(at(&stream, Start::New), Some(14), "the line that is not finished yet");
        assert_eq!(at(&stream, Start::Tail(4)), Some(14));
        assert_eq!(at(&stream, Start::Tail(5)), Some(8));
        assert_eq!(at(&stream, Start::Tail(17)), Some(0));
        assert_eq!(join(&stream, Start::Offset(5)).unwrap(), None);
    }

    #[test]
    fn a_reader_skips_the_rest_of_a_line_whose_beginning_was_overwritten() {
        let chunks = ["123456789\n12345"; 1000];
        let stream = stream(Some("application/x-ndjson"), &chunks);
        let tail = stream.extent().tail;
        let start = at(&stream, Start::Oldest).unwrap();
        assert!(tail > 0 && start == (tail..).find(|at| at % 15 == 10).unwrap());
        let long = super::tests::stream(None, &["x"; 9000]);
        assert_eq!(at(&long, Start::Oldest), None, "no line begins in the ring");
    }

    #[test]
    fn a_reader_of_csv_gets_the_first_line_of_the_stream_as_the_header() {
        let mut chunks = vec!["time,", "value\n1,2", "\n"];
        chunks.extend(["3,4\n5,6\n"; 1000]);
        let csv = stream(Some("text/csv"), &chunks);
        let joined = join(&csv, Start::Oldest).unwrap().unwrap();
        assert_eq!((joined.format, &*joined.header), (Some(Format::Csv), &b"time,value\n"[..]));
        let short = stream(Some("text/csv"), &chunks[..4]);
        assert!(join(&short, Start::Oldest).unwrap().unwrap().header.is_empty());
        assert!(!join(&short, Start::New).unwrap().unwrap().header.is_empty());
    }

    #[test]
    fn only_text_is_joined_at_lines() {
        for text in ["", "log\n", "gr\u{fc}n", "\u{2603}\u{2603}"] {
            assert!(is_text(text.as_bytes()), "{text:?}");
            assert!(is_text(text.as_bytes().get(1..).unwrap_or_default()), "{text:?}");
        }
        for other in [&b"a\0b"[..], b"\xff\xfe", b"ab\xc3("] {
            assert!(!is_text(other), "{other:?}");
        }
        assert_eq!(join(&stream(None, &["\0\0"]), Start::New).unwrap(), None);
        assert_eq!(join(&stream(Some("video/mp4"), &["text\n"]), Start::New).unwrap(), None);
    }
}
