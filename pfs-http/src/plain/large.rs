//! Large chunks as server-sent events: one event for each chunk, written in parts.
//!
//! An event is either text or base64 from its beginning, and its id is the offset after the text
//! that it shows. A chunk that may be text is therefore scanned to its end before its first part
//! is sent.

use std::{mem, str};

use base64::{Engine, prelude::BASE64_STANDARD};
use pfs_host::wide;
use pfs_proto::Identity;
use pfs_stream::Reader;

use super::sse::EventId;
use crate::sse::{END, Spacing, complete_text, put_head, put_lines};

/// Number of bytes that are scanned in one turn.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Chunk that is read in parts.
#[derive(Debug)]
pub(super) struct Large {
    /// Bytes of the chunk that were read, but not sent yet.
    read: Vec<u8>,
    /// Offset after the chunk, and offset after the bytes that were read or scanned.
    end: u64,
    seen: u64,
    form: Form,
    /// Whether the event has begun.
    begun: bool,
}

#[derive(Debug)]
enum Form {
    Undecided(Check),
    /// Sent as text, except the last `rest` bytes.
    Text {
        rest: usize,
    },
    Base64,
}

/// Incremental UTF-8 validation of bytes that arrive in pieces.
#[derive(Debug, Default)]
struct Check {
    /// Beginning of a character whose end has not arrived.
    unfinished: Vec<u8>,
    /// Byte before the unfinished character.
    last: Option<u8>,
}

impl Check {
    /// Adds bytes. Returns whether all bytes so far may be text.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let joined;
        let text = if self.unfinished.is_empty() {
            bytes
        } else {
            joined = [&self.unfinished, bytes].concat();
            &joined
        };
        let whole = match str::from_utf8(text) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return false,
        };
        let (text, unfinished) = text.split_at_checked(whole).unwrap_or_default();
        self.last = text.last().copied().or(self.last);
        self.unfinished = unfinished.to_vec();
        true
    }

    /// Number of bytes at the end that wait for the next chunk, by the rules of [`complete_text`].
    fn rest(&self) -> usize {
        self.unfinished.len().saturating_add(usize::from(self.last == Some(b'\r')))
    }
}

impl Large {
    /// Begins a chunk with its first `part`, which ends at offset `seen`. `left` bytes are still to
    /// come. `before` is text that waited for this chunk.
    pub(super) fn new(may_be_text: bool, before: &[u8], part: &[u8], seen: u64, left: u64) -> Self {
        let mut check = Check::default();
        let form = if may_be_text && check.add(before) && check.add(part) {
            Form::Undecided(check)
        } else {
            Form::Base64
        };
        Self { read: part.to_vec(), end: seen.saturating_add(left), seen, form, begun: false }
    }

    /// Adds the next part.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.read.extend_from_slice(part);
        self.seen = self.seen.saturating_add(wide(part.len()));
    }

    /// Whether no byte of the chunk can be sent yet.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.form, Form::Undecided(_))
    }

    /// Scans the next bytes of the chunk. Returns false if there is nothing left to scan, or the
    /// chunk was overwritten.
    pub(super) fn look_ahead(&mut self, reader: &Reader) -> bool {
        let Form::Undecided(check) = &mut self.form else { return false };
        let read = reader.position();
        if self.seen < self.end {
            let mut bytes = Vec::with_capacity(READ_AHEAD_BYTES);
            let Some(len) = reader.peek(self.seen, READ_AHEAD_BYTES, &mut bytes) else {
                return false;
            };
            if !check.add(&bytes) {
                (self.form, self.seen) = (Form::Base64, read);
                return true;
            }
            self.seen = self.seen.saturating_add(wide(len));
        }
        if self.seen >= self.end {
            (self.form, self.seen) = (Form::Text { rest: check.rest() }, read);
        }
        true
    }

    /// Appends to `out` all text or base64 that can be sent. Returns true at the end of the chunk;
    /// `before` then has the bytes that wait for the next chunk.
    pub(super) fn put(
        &mut self,
        identity: Identity,
        before: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        let (name, rest) = match self.form {
            Form::Undecided(_) => return false,
            Form::Text { rest } => (None, rest),
            Form::Base64 => (Some("base64"), 0),
        };
        let is_all = self.seen >= self.end;
        if !mem::replace(&mut self.begun, true) {
            let id = EventId { identity, offset: self.end.saturating_sub(wide(rest)) };
            put_head(out, name, Some(&id));
            out.extend_from_slice(b"data: ");
            self.read.splice(..0, before.drain(..));
        }
        let shown = if name.is_none() {
            // The scan has found the whole chunk to be text.
            let text = complete_text(&self.read).unwrap_or_default();
            put_lines(out, Spacing::Spaced, text, true);
            text.len()
        } else {
            // A part is cut at a multiple of three bytes, which base64 encodes without padding.
            let len = self.read.len();
            let groups = if is_all { len } else { len.saturating_sub(len % 3) };
            out.extend_from_slice(
                BASE64_STANDARD.encode(self.read.get(..groups).unwrap_or_default()).as_bytes(),
            );
            groups
        };
        self.read.drain(..shown);
        if is_all {
            out.extend_from_slice(END);
            *before = mem::take(&mut self.read);
        }
        is_all
    }
}

#[cfg(test)]
mod tests {
    use pfs_host::{Encoder, Gap};
    use pfs_proto::ReadOptions;
    use pfs_stream::{Read, Sink, Stream, StreamConfig};

    use super::{super::sse::Events, *};

    /// Bytes that matter to events: characters of one to four bytes and parts of them, line ends,
    /// and bytes that are not text.
    const ALPHABET: [&[u8]; 10] = [
        b"a",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        "\u{e4}".as_bytes(),
        "\u{20ac}".as_bytes(),
        "\u{1f600}".as_bytes(),
        b"\xe2",
        b"\xff",
    ];

    fn stream(ring: u64) -> Stream {
        let config = StreamConfig {
            ring_buffer_size: ring,
            channel_buffer_size: ring,
            ..StreamConfig::default()
        };
        Stream::new("s", config).unwrap()
    }

    fn append(stream: &Stream, chunk: &[u8]) {
        stream.writer().unwrap().try_append(chunk).unwrap();
    }

    fn reader(stream: &Stream) -> Reader {
        stream.reader(ReadOptions::default()).unwrap()
    }

    /// Scans ahead, or reads up to `most` bytes and headers. Returns false at head.
    fn turn(events: &mut Events, reader: &mut Reader, most: usize) -> bool {
        if events.look_ahead(reader) {
            return true;
        }
        let Some(read) = reader.try_read(events, most).unwrap() else { return false };
        assert!(matches!(read, Read::Data { .. }));
        assert!(events.data(reader.position()).is_continue());
        true
    }

    /// Events of a stream's chunks, read `most` bytes at a time.
    fn written(stream: &Stream, content_type: Option<&str>, most: usize) -> String {
        let (mut events, mut reader) =
            (Events::new("6418-2a".parse().unwrap(), content_type), reader(stream));
        let most = events.header_len() + most;
        while turn(&mut events, &mut reader, most) {}
        events.end(pfs_proto::End::Closed, reader.position()).unwrap();
        String::from_utf8(events.take()).unwrap()
    }

    #[test]
    fn events_are_the_same_whether_their_chunks_are_read_whole_or_in_parts() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut texts, mut others) = (0, 0);
        for round in 0..2000 {
            let stream = stream(4096);
            // Most chunks are made of text only, so that some of them are text as a whole.
            let letters = ALPHABET.len() as u64 - next(4) % 3;
            for _ in 0..=next(3) {
                let chunk: Vec<_> = (0..=next(60))
                    .flat_map(|_| ALPHABET[next(letters) as usize])
                    .copied()
                    .collect();
                append(&stream, &chunk);
            }
            let content_type = (round % 4 == 0).then_some("video/mp2t");
            let whole = written(&stream, content_type, 1024 * 1024);
            *(if whole.contains("base64") { &mut others } else { &mut texts }) += 1;
            for most in [5, 8, 70] {
                assert_eq!(written(&stream, content_type, most), whole, "{most} bytes at a time");
            }
        }
        assert!(texts > 100 && others > 100, "{texts} of text, {others} of others");
    }

    #[test]
    fn a_loss_inside_an_event_breaks_the_response_and_a_loss_before_it_is_a_gap() {
        for is_begun in [true, false] {
            let stream = stream(4096);
            append(&stream, b"before\r");
            append(&stream, &[b'a'; 2000]);
            let (mut events, mut reader) =
                (Events::new("6418-2a".parse().unwrap(), None), reader(&stream));
            assert!(turn(&mut events, &mut reader, 200) && turn(&mut events, &mut reader, 200));
            if is_begun {
                assert!(turn(&mut events, &mut reader, 200));
            }
            assert_eq!(String::from_utf8(events.take()).unwrap().contains("aaa"), is_begun);
            append(&stream, &[b'b'; 4096]);
            assert!(!events.look_ahead(&reader));
            let gap = reader.try_read(&mut events, 200).unwrap().unwrap();
            assert_eq!(gap, Read::Gap { from: 7, to: 2007, chunks: 1 });
            let told = events.gap(Gap { from: 7, to: 2007, chunks: 1 });
            assert_eq!(told.is_err(), is_begun);
            assert!(
                is_begun
                    || String::from_utf8(events.take())
                        .unwrap()
                        .contains("id: 6418-2a:7\ndata: \ndata: \n\nevent: gap\n")
            );
        }
    }

    #[test]
    fn the_events_of_a_read_are_no_larger_than_the_encoder_s_expansion() {
        for (content_type, chunk) in [
            (None, &b"\n"[..]),
            (None, b"\xff"),
            (None, &[b'\n'; 3000]),
            (Some("video/mp2t"), b"x"),
        ] {
            let stream = stream(64 * 1024);
            (0..50).for_each(|_| append(&stream, chunk));
            let (mut events, mut reader) =
                (Events::new("6418-2a".parse().unwrap(), content_type), reader(&stream));
            let most = 8000;
            let read = most / events.expansion();
            while turn(&mut events, &mut reader, read) {
                let made = events.take().len();
                assert!(made <= most, "{made} bytes of {} {:?}", chunk.len(), chunk.first());
            }
        }
    }
}
