//! A stream as server-sent events, for the EventSource of browsers.
//!
//! A chunk is an event: `message` with its text, or `base64` if it is not text, or has a carriage return, which such text
//! cannot carry. A stream whose media type says that it is not text is `base64` throughout. An event's id is the offset after
//! it. Besides there are `gap`, `end` and `failure`, with JSON in them.

use std::{mem, ops::ControlFlow, time::Duration};

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use pfs_host::{Broken, Encoder, Failure, Gap};
use pfs_proto::End;
use pfs_stream::Sink;
use serde_json::{Value, json};

use super::query::bad;
use crate::problem::Problem;

/// What these responses are.
pub(crate) const MEDIA_TYPE: &str = "text/event-stream";

/// The id of the last event that a client that comes back has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// After so long without an event there is a comment, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whether a request asks for events.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_ours = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(MEDIA_TYPE));
        is_ours && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The offset after the last event that the client has seen.
pub(crate) fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let offset = id.to_str().ok().and_then(|id| id.parse().ok());
    offset.map(Some).ok_or_else(|| bad("the Last-Event-ID of a stream is an offset, a number"))
}

/// Whether a media type is one of text.
fn is_text(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/json", "application/x-ndjson", "application/xml", "application/javascript"];
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || known.contains(&media_type.as_str())
}

/// Writes events.
#[derive(Debug)]
pub(crate) struct Events {
    /// Whole chunks, one after the other.
    chunks: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    out: Vec<u8>,
    /// Whether chunks may be text.
    text: bool,
}

impl Events {
    /// For a stream of this media type.
    pub(crate) fn of(content_type: Option<&str>) -> Self {
        let text = content_type.is_none_or(is_text);
        Self { chunks: Vec::new(), ends: Vec::new(), out: Vec::new(), text }
    }

    fn event(&mut self, name: &str, id: Option<u64>, data: &Value) {
        let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
        self.out.extend(format!("event: {name}\n{id}data: {data}\n\n").as_bytes());
    }
}

/// A chunk as an event.
fn put_chunk(out: &mut Vec<u8>, id: u64, chunk: &[u8], may_be_text: bool) {
    let text = std::str::from_utf8(chunk).ok().filter(|text| may_be_text && !text.contains('\r'));
    if text.is_none() {
        out.extend(b"event: base64\n");
    }
    out.extend(format!("id: {id}\n").as_bytes());
    match text {
        // What ends with a line end has an empty line after it.
        Some(text) => text.split('\n').for_each(|line| {
            out.extend(b"data: ");
            out.extend(line.as_bytes());
            out.push(b'\n');
        }),
        None => {
            out.extend(b"data: ");
            out.extend(BASE64_STANDARD.encode(chunk).as_bytes());
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

impl Sink for Events {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunks
    }

    fn piece(&mut self, len: usize, _last: bool) {
        self.ends.push(self.chunks.len().saturating_add(len));
    }

    fn undo_to(&mut self, len: usize) {
        self.chunks.truncate(len);
        self.ends.retain(|end| *end <= len);
    }
}

impl Encoder for Events {
    // Tiny chunks become many times as large.
    const BATCH: usize = 64 << 10;

    fn data(&mut self, position: u64) -> ControlFlow<()> {
        let (chunks, ends) = (mem::take(&mut self.chunks), mem::take(&mut self.ends));
        let mut begin = 0;
        for end in ends {
            let after = u64::try_from(chunks.len().saturating_sub(end)).unwrap_or(u64::MAX);
            let chunk = chunks.get(begin..end).unwrap_or_default();
            put_chunk(&mut self.out, position.saturating_sub(after), chunk, self.text);
            begin = end;
        }
        ControlFlow::Continue(())
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
        let Gap { from, to, chunks } = gap;
        // As elsewhere: how many chunks were lost before this reader came, nobody knows.
        let chunks = (chunks > 0).then_some(chunks);
        self.event("gap", Some(to), &json!({ "from": from, "to": to, "chunks": chunks }));
        Ok(())
    }

    fn end(&mut self, end: End, position: u64) -> Result<(), Broken> {
        let told = json!({ "reason": end.to_string(), "offset": position });
        self.event("end", Some(position), &told);
        match end {
            End::WriterDied => Err(Broken("a writer died without finishing".to_owned())),
            End::Closed | End::CaughtUp | End::WritersGone => Ok(()),
        }
    }

    fn failed(&mut self, failure: &Failure) -> bool {
        let problem = Problem::from(failure.clone());
        self.event("failure", None, &json!({ "code": problem.code, "message": problem.message }));
        // Told, but whoever does not listen to this event must not take it for the end.
        false
    }

    fn keep_alive(&self) -> Option<Duration> {
        Some(KEEP_ALIVE)
    }

    fn ping(&mut self) -> ControlFlow<()> {
        self.out.extend(b":\n\n");
        ControlFlow::Continue(())
    }

    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(content_type: Option<&str>, chunks: &[&[u8]]) -> String {
        let mut events = Events::of(content_type);
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
            "id: 104\ndata: one\ndata: \n\nid: 113\ndata: two\ndata: three\n\nid: 121\ndata:  späße\n\n"
        );
    }

    #[test]
    fn what_text_cannot_carry_is_base64() {
        assert_eq!(
            events(Some("text/plain; charset=utf-8"), &[b"\xff\x00", b"a\r\n", b"ok"]),
            "event: base64\nid: 102\ndata: /wA=\n\nevent: base64\nid: 105\ndata: YQ0K\n\nid: 107\ndata: ok\n\n"
        );
        assert_eq!(events(Some("video/mp2t"), &[b"ok"]), "event: base64\nid: 102\ndata: b2s=\n\n");
        for text in ["TEXT/html", "application/json", "application/geo+json;x=y", "image/svg+xml"] {
            assert!(is_text(text), "{text}");
        }
    }

    #[test]
    fn what_is_taken_back_becomes_no_event() {
        let mut events = Events::of(None);
        for chunk in [b"kept", b"gone"] {
            events.piece(4, true);
            events.buffer().extend_from_slice(chunk);
        }
        events.undo_to(4);
        assert!(events.data(4).is_continue());
        assert_eq!(events.take(), b"id: 4\ndata: kept\n\n");
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
}
