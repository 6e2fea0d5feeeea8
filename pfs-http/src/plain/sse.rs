//! Server-sent events: encodes a stream for the `EventSource` of browsers.
//!
//! A chunk is an event: `message` with its text, or `base64` if it is not text. If the media type
//! of a stream is not a text type, all its events are `base64`. The beginning of a character that
//! is split between two chunks, and a carriage return that may be followed by a line feed, are sent
//! with the next chunk. The id of an event is the identity of the stream and the offset after the
//! event. Further events are `gap`, `end`, `failure` and `removed`, with JSON data.
//!
//! A large chunk is read and written in parts (`large.rs`). If the writer overwrites the chunk
//! meanwhile, the response breaks inside the event: clients discard half an event, and reconnect
//! with the id of the previous one.

use std::{
    fmt::{self, Display, Formatter},
    mem,
    ops::ControlFlow,
    str::FromStr,
    time::Duration,
};

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use pfs_host::{Broken, Encoder, Failure, Gap, wide};
use pfs_proto::{End, Identity};
use pfs_stream::{Reader, Sink};
use serde_json::json;

use super::{large::Large, query::bad};
use crate::{
    media_type::MediaType,
    problem::Problem,
    sse::{KEEP_ALIVE, MEDIA_TYPE, PING, Spacing, complete_text, put_event},
};

/// Header with the id of the last event that a reconnecting client has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// Whether a request asks for events.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_ours = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(MEDIA_TYPE));
        is_ours && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Event id: the stream and the offset after the event. Written as `6418f2a0c3d51-2a:1234`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(crate) identity: Identity,
    pub(crate) offset: u64,
}

impl Display for EventId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.identity, self.offset)
    }
}

/// Error of a text that is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (identity, offset) = text.split_once(':').ok_or(NoEventId)?;
        if !offset.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(NoEventId);
        }
        let identity = identity.parse().map_err(|_| NoEventId)?;
        Ok(Self { identity, offset: offset.parse().map_err(|_| NoEventId)? })
    }
}

/// Parses the id of the last event that the client has seen. Browsers send the id back unchanged.
pub(crate) fn last_seen(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let parsed = id.to_str().ok().and_then(|id| id.parse().ok());
    parsed.map(Some).ok_or_else(|| {
        bad("Last-Event-ID is not an event id: an event id names a stream and an offset, such as 6418f2a0c3d51-2a:1234; \
             to start over, leave the header out")
    })
}

/// Appends the event that reports the removal of the stream that the client followed.
pub(crate) fn put_removed(out: &mut Vec<u8>, removed: Identity, next: Option<Identity>) {
    let told = json!({ "identity": removed.to_string() }).to_string();
    // With this id, a client that receives only this event resumes in the next stream, without a
    // second `removed` event.
    let id = next.map(|identity| EventId { identity, offset: 0 });
    put_event(
        out,
        Spacing::Spaced,
        Some("removed"),
        id.as_ref().map(|id| id as &dyn Display),
        &told,
    );
}

/// Appends the event that reports why the stream cannot be read any more.
pub(crate) fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    let problem = Problem::from(failure.clone());
    let told = json!({ "code": problem.code, "message": problem.message }).to_string();
    put_event(out, Spacing::Spaced, Some("failure"), None, &told);
}

/// Whether a media type is a text type.
fn is_text(media_type: &str) -> bool {
    MediaType::parse(media_type).is_some_and(|MediaType { kind, subtype }| {
        let known = ["json", "x-ndjson", "xml", "javascript"];
        kind == "text"
            || subtype.ends_with("+json")
            || subtype.ends_with("+xml")
            || (kind == "application" && known.contains(&subtype.as_str()))
    })
}

/// Maximum number of bytes that an event adds to its data: `event: base64`, the id, `data: `, their
/// line ends, the empty line, and the text before it that was held back.
const HEADER: usize = 112;

/// Encoder of events.
#[derive(Debug)]
pub(crate) struct Events {
    identity: Identity,
    /// Bytes of chunks and parts of chunks, in order.
    chunks: Vec<u8>,
    /// End of each chunk or part, and the number of bytes of the chunk that are still to be read.
    ends: Vec<(usize, u64)>,
    /// Chunk that is being read in parts.
    large: Option<Large>,
    /// Text that is held back: the beginning of a character or of a line end.
    rest: Vec<u8>,
    out: Vec<u8>,
    /// Whether chunks may be text.
    text: bool,
}

impl Events {
    /// Creates an encoder for a stream and its media type.
    pub(crate) fn new(identity: Identity, content_type: Option<&str>) -> Self {
        let text = content_type.is_none_or(is_text);
        Self {
            identity,
            chunks: Vec::new(),
            ends: Vec::new(),
            large: None,
            rest: Vec::new(),
            out: Vec::new(),
            text,
        }
    }

    /// Begins with an id without an event. A client whose connection breaks inside its first event
    /// reconnects with this id, and learns what it missed.
    pub(crate) fn put_start(&mut self, offset: u64) {
        let id = EventId { identity: self.identity, offset };
        self.out.extend_from_slice(format!("id: {id}\n\n").as_bytes());
    }

    /// Begins with the removal of another stream.
    pub(crate) fn put_removed(&mut self, removed: Identity) {
        put_removed(&mut self.out, removed, Some(self.identity));
    }

    fn event(&mut self, name: Option<&str>, offset: u64, data: &str) {
        let id = EventId { identity: self.identity, offset };
        put_event(&mut self.out, Spacing::Spaced, name, Some(&id), data);
    }

    /// Appends the text that was held back, which ends at offset `id`, because no
    /// continuation follows.
    fn put_rest(&mut self, id: u64) {
        let rest = mem::take(&mut self.rest);
        self.put(id, &rest);
    }

    /// Appends a chunk that ends at offset `id`. An incomplete character or line end is held back.
    fn put_chunk(&mut self, id: u64, chunk: &[u8]) {
        if !self.text {
            return self.put(id, chunk);
        }
        let mut joined = mem::take(&mut self.rest);
        let text = if joined.is_empty() {
            chunk
        } else {
            joined.extend_from_slice(chunk);
            &joined
        };
        let Some(shown) = complete_text(text) else { return self.put(id, text) };
        let rest = text.get(shown.len()..).unwrap_or_default();
        if !shown.is_empty() {
            self.event(None, id.saturating_sub(wide(rest.len())), shown);
        }
        self.rest.extend_from_slice(rest);
    }

    /// Appends the bytes that can be sent of the chunk that is being read in parts.
    fn put_large(&mut self) {
        let Self { identity, large, rest, out, .. } = self;
        if let Some(shown) = large
            && shown.put(*identity, rest, out)
        {
            *large = None;
        }
    }

    /// Appends bytes as an event, if there are any.
    fn put(&mut self, id: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if self.text => self.event(None, id, text),
            _ => self.event(Some("base64"), id, &BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl Sink for Events {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunks
    }

    fn header_len(&self) -> usize {
        HEADER.div_ceil(self.expansion())
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn piece(&mut self, len: usize, _last: bool) {
        self.part(len, 0);
    }

    fn part(&mut self, len: usize, left: u64) {
        self.ends.push((self.chunks.len().saturating_add(len), left));
    }

    fn undo_to(&mut self, len: usize) {
        self.chunks.truncate(len);
        self.ends.retain(|(end, _)| *end <= len);
    }
}

impl Encoder for Events {
    // A reader with a large buffer reads a chunk of 64 KiB as a whole.
    const BATCH: usize = (64 * 1024) + HEADER;
    const READS_APART: bool = true;

    fn expansion(&self) -> usize {
        // A line end becomes the beginning of a field. Base64 encodes three bytes as
        // four characters.
        if self.text { "\ndata: ".len() } else { 2 }
    }

    fn look_ahead(&mut self, reader: &Reader) -> bool {
        let Some(large) = self.large.as_mut().filter(|large| large.is_undecided()) else {
            return false;
        };
        let is_held = large.look_ahead(reader);
        self.put_large();
        is_held
    }

    fn data(&mut self, position: u64) -> ControlFlow<Result<(), Broken>> {
        let (mut chunks, mut ends) = (mem::take(&mut self.chunks), mem::take(&mut self.ends));
        let mut begin = 0;
        for (end, left) in ends.drain(..) {
            let chunk = chunks.get(begin..end).unwrap_or_default();
            begin = end;
            let after = position.saturating_sub(wide(chunks.len().saturating_sub(end)));
            match &mut self.large {
                None if left == 0 => self.put_chunk(after, chunk),
                None => self.large = Some(Large::new(self.text, &self.rest, chunk, after, left)),
                Some(large) => large.add(chunk),
            }
            self.put_large();
        }
        chunks.clear();
        self.chunks = chunks;
        ControlFlow::Continue(())
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
        let Gap { from, to, chunks } = gap;
        // Nothing has been sent of a chunk that is still being scanned.
        if self.large.take().is_some_and(|large| !large.is_undecided()) {
            return Err(Broken(format!("bytes {from}..{to} were lost inside an event")));
        }
        self.put_rest(from);
        // Zero means that the number is unknown: the chunks were lost before this reader attached.
        let chunks = (chunks > 0).then_some(chunks);
        self.event(
            Some("gap"),
            to,
            &json!({ "from": from, "to": to, "chunks": chunks }).to_string(),
        );
        Ok(())
    }

    fn end(&mut self, end: End, position: u64) -> Result<(), Broken> {
        debug_assert!(self.large.is_none(), "an end inside a chunk");
        self.put_rest(position);
        let told = json!({ "reason": end.to_string(), "offset": position });
        self.event(Some("end"), position, &told.to_string());
        match end {
            End::WriterDied => Err(Broken("a writer died without finishing, or failed".to_owned())),
            End::Failed => Err(Broken("the stream was closed as failed".to_owned())),
            End::Closed | End::CaughtUp | End::WritersGone => Ok(()),
        }
    }

    fn failed(&mut self, failure: &Failure) -> bool {
        if self.large.as_ref().is_none_or(Large::is_undecided) {
            put_failure(&mut self.out, failure);
        }
        // The event reports the failure, but a client that ignores the event must not take the end
        // of the response for the end of the stream.
        false
    }

    fn keep_alive(&self) -> Option<Duration> {
        Some(KEEP_ALIVE)
    }

    fn ping(&mut self) -> ControlFlow<()> {
        self.out.extend_from_slice(PING);
        ControlFlow::Continue(())
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(content_type: Option<&str>) -> Events {
        Events::new("6418-2a".parse().unwrap(), content_type)
    }

    fn events(content_type: Option<&str>, chunks: &[&[u8]]) -> String {
        let mut events = new(content_type);
        for chunk in chunks {
            events.piece(chunk.len(), true);
            events.buffer().extend_from_slice(chunk);
        }
        assert!(events.data(100 + chunks.concat().len() as u64).is_continue());
        String::from_utf8(events.take()).unwrap()
    }

    #[test]
    fn a_chunk_of_text_is_a_message_and_its_id_is_the_offset_after_it() {
        assert_eq!(
            events(None, &[b"one\n", b"two\nthree", " späße".as_bytes()]),
            "id: 6418-2a:104\ndata: one\ndata: \n\nid: 6418-2a:113\ndata: two\ndata: three\n\nid: 6418-2a:121\ndata:  späße\n\n"
        );
    }

    #[test]
    fn a_chunk_that_is_not_text_becomes_a_base64_event() {
        assert_eq!(
            events(Some("text/plain; charset=utf-8"), &[b"\xff\x00", b"a\r\nb", b"ok"]),
            "event: base64\nid: 6418-2a:102\ndata: /wA=\n\nid: 6418-2a:106\ndata: a\ndata: b\n\nid: 6418-2a:108\ndata: ok\n\n"
        );
        assert_eq!(
            events(Some("video/mp2t"), &[b"ok"]),
            "event: base64\nid: 6418-2a:102\ndata: b2s=\n\n"
        );
        for text in ["TEXT/html", "application/json", "application/geo+json;x=y", "image/svg+xml"] {
            assert!(is_text(text), "{text}");
        }
    }

    #[test]
    fn a_character_or_line_end_split_between_chunks_comes_with_the_second_chunk() {
        let (first, second) = "€".as_bytes().split_at(1);
        assert_eq!(
            events(None, &[b"a", first, second, b"b\r", b"\nc"]),
            "id: 6418-2a:101\ndata: a\n\nid: 6418-2a:104\ndata: \u{20ac}\n\nid: 6418-2a:105\ndata: b\n\nid: 6418-2a:108\ndata: \ndata: c\n\n"
        );
        assert_eq!(
            events(None, &[first, b"b"]),
            "event: base64\nid: 6418-2a:102\ndata: 4mI=\n\n",
            "the bytes were not a character"
        );
    }

    #[test]
    fn text_that_was_held_back_comes_before_a_gap_and_before_the_end() {
        let waiting = || {
            let mut events = new(None);
            events.piece(2, true);
            events.buffer().extend_from_slice(b"a\xe2");
            assert!(events.data(2).is_continue());
            events
        };
        let waited = "id: 6418-2a:1\ndata: a\n\nevent: base64\nid: 6418-2a:2\ndata: 4g==\n\n";
        let mut events = waiting();
        events.gap(Gap { from: 2, to: 9, chunks: 1 }).unwrap();
        assert!(
            String::from_utf8(events.take()).unwrap().starts_with(&format!("{waited}event: gap\n"))
        );
        let mut events = waiting();
        events.end(End::Closed, 2).unwrap();
        assert!(
            String::from_utf8(events.take()).unwrap().starts_with(&format!("{waited}event: end\n"))
        );
    }

    #[test]
    fn a_chunk_that_is_taken_back_makes_no_event() {
        let mut events = new(None);
        for chunk in [b"kept", b"gone"] {
            events.piece(4, true);
            events.buffer().extend_from_slice(chunk);
        }
        events.undo_to(4);
        assert!(events.data(4).is_continue());
        assert_eq!(events.take(), b"id: 6418-2a:4\ndata: kept\n\n");
    }

    #[test]
    fn events_are_wanted_by_their_media_type_alone() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            is_wanted(&headers)
        };
        assert!(wanted("text/event-stream") && wanted("text/html, Text/Event-Stream;q=0.5"));
        assert!(!wanted("*/*") && !wanted("text/*") && !wanted("text/event-stream;q=0"));
    }

    #[test]
    fn an_event_id_round_trips_through_text_and_other_texts_are_refused() {
        let identity = "6418f2a0c3d51-2a".parse().unwrap();
        for offset in [0, 1234, u64::MAX] {
            let id = EventId { identity, offset };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in [
            "",
            "2",
            "6418-2a",
            "6418-2a:",
            "6418-2a:+1",
            "6418-2a:-1",
            ":1",
            "6418:1",
            "6418-2a:1 ",
            "6418-2a:1:1",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(NoEventId), "{bad:?}");
        }
        assert_eq!(format!("6418-2a:{}0", u64::MAX).parse::<EventId>(), Err(NoEventId));
    }

    #[test]
    fn a_removal_has_the_id_of_the_next_stream_s_start_if_there_is_one() {
        let mut events = new(None);
        events.put_removed("6418-7".parse().unwrap());
        let told = "event: removed\nid: 6418-2a:0\ndata: {\"identity\":\"6418-7\"}\n\n";
        assert_eq!(String::from_utf8(events.take()).unwrap(), told);
        let mut out = Vec::new();
        put_removed(&mut out, "6418-7".parse().unwrap(), None);
        assert_eq!(String::from_utf8(out).unwrap(), told.replace("id: 6418-2a:0\n", ""));
    }
}
