//! Server-sent events: reads that follow a stream.
//!
//! The connection breaks if bytes are lost, the stream is removed or closed as failed, or the
//! daemon shuts down. Only a control event with `streamClosed` is an end. If the connection just
//! ends, the client reconnects with the last offset that it received.
//!
//! Bytes can be cut anywhere, so a large chunk becomes several events. A JSON message is never cut:
//! a large message is gathered, and its memory stays reserved until it has been sent.

use std::{mem, ops::ControlFlow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use pfs_host::{
    Broken, Daemon, Encoder, Gap,
    refusals::{Asked, Reason},
    wide,
};
use pfs_proto::End;
use pfs_stream::{Hold, Reader, Reservation, Sink, Stream};
use tokio::time::Instant;

use super::{
    cache, headers, json, media_type::Kind, offset::Token, page::Chunks, read::Reading,
    refusal::Refusal,
};
use crate::{
    Site,
    body::Following,
    sse::{KEEP_ALIVE, MEDIA_TYPE, Spacing, complete, put_event},
};

/// Time after which a response ends, as the protocol requires.
const LIFETIME: Duration = Duration::from_secs(60);

/// Answers a read that follows the stream.
pub(super) fn answer(site: &Site, reading: &Reading<'_>) -> Result<Response, Refusal> {
    let (reader, kind) = (reading.attach()?, reading.kind());
    let events = Events::new(
        Arc::clone(&site.daemon),
        reading.stream.clone(),
        kind,
        reading.query.cursor.clone(),
    );
    let body = Following::new(reading.place.follow(reader, events));
    let mut response = Body::new(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if kind == Kind::Binary {
        headers.insert(headers::SSE_ENCODING, HeaderValue::from_static("base64"));
    }
    Ok(response)
}

/// Encoder of events.
#[derive(Debug)]
struct Events {
    daemon: Arc<Daemon>,
    stream: Stream,
    _alive: Hold,
    kind: Kind,
    cursor: Option<String>,
    /// Bytes that were read from the ring and not encoded yet.
    chunks: Chunks,
    /// Number of bytes still to be read of a chunk that is read in parts.
    left: u64,
    /// Memory reservation of the large message that is being gathered, or was sent last.
    reserved: Option<Reservation>,
    /// Text that waits for its continuation: the beginning of a character or of a line end.
    rest: Vec<u8>,
    out: Vec<u8>,
    /// Position that the client was told last.
    told: Option<Place>,
    position: u64,
    until: Option<Instant>,
}

/// Contents of a control event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    next: u64,
    up_to_date: bool,
}

impl Events {
    fn new(daemon: Arc<Daemon>, stream: Stream, kind: Kind, cursor: Option<String>) -> Self {
        Self {
            daemon,
            _alive: stream.hold(),
            stream,
            kind,
            cursor,
            chunks: Chunks::new(kind),
            left: 0,
            reserved: None,
            rest: Vec::new(),
            out: Vec::new(),
            told: None,
            position: 0,
            until: Instant::now().checked_add(LIFETIME),
        }
    }

    /// Reserves memory for a message that is read in parts. Returns false if there is not
    /// enough memory.
    fn gather(&mut self) -> bool {
        if self.reserved.is_none() {
            let message = wide(self.chunks.bytes.len()).saturating_add(self.left);
            // Room for the message as it was read, and as it is sent.
            self.reserved = self.daemon.leaving().reserve(message.saturating_mul(2));
            self.chunks.bytes.reserve_exact(usize::try_from(self.left).unwrap_or_default());
        }
        self.reserved.is_some()
    }

    /// Appends an event with the bytes that were read. If the stream `goes_on`, an incomplete
    /// character or line end at the end of a text is held back.
    fn put_data(&mut self, goes_on: bool) {
        let mut chunks = mem::replace(&mut self.chunks, Chunks::new(self.kind));
        let payload = match self.kind {
            Kind::Json => {
                json::array(chunks.each()).and_then(|array| String::from_utf8(array).ok())
            }
            Kind::Binary => Some(BASE64_STANDARD.encode(&chunks.bytes)),
            Kind::Text => {
                chunks.bytes.splice(..0, self.rest.drain(..));
                let shown = if goes_on { complete(&chunks.bytes) } else { chunks.bytes.len() };
                self.rest.extend(chunks.bytes.drain(shown..));
                Some(String::from_utf8_lossy(&chunks.bytes).into_owned())
            }
        };
        if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
            put_event(&mut self.out, Spacing::Compact, Some("data"), None, &payload);
        }
    }

    /// Appends a control event with the client's position.
    fn put_place(&mut self, place: Place) {
        self.told = Some(place);
        let Place { next, up_to_date } = place;
        let next = Token::new(&self.stream, next);
        let cursor = cache::cursor(self.cursor.as_deref());
        let up_to_date = if up_to_date { ",\"upToDate\":true" } else { "" };
        let control = format!(
            "{{\"streamNextOffset\":\"{next}\",\"streamCursor\":\"{cursor}\"{up_to_date}}}"
        );
        put_event(&mut self.out, Spacing::Compact, Some("control"), None, &control);
    }

    /// Position of the client after all events so far; text that is held back does not count.
    fn next(&self) -> u64 {
        self.position.saturating_sub(wide(self.rest.len()))
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Sink for Events {
    fn buffer(&mut self) -> &mut Vec<u8> {
        self.chunks.buffer()
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn piece(&mut self, len: usize, last: bool) {
        self.left = 0;
        self.chunks.piece(len, last);
    }

    fn part(&mut self, _len: usize, left: u64) {
        self.left = left;
    }

    fn undo_to(&mut self, len: usize) {
        self.chunks.undo_to(len);
    }
}

impl Encoder for Events {
    const BATCH: usize = 64 * 1024;

    fn expansion(&self) -> usize {
        match self.kind {
            Kind::Text => "\ndata: ".len(),
            Kind::Binary | Kind::Json => 2,
        }
    }

    /// Called after the previous message has been sent.
    fn look_ahead(&mut self, _reader: &Reader) -> bool {
        if self.left == 0 {
            self.reserved = None;
        }
        false
    }

    fn data(&mut self, position: u64) -> ControlFlow<Result<(), Broken>> {
        self.position = position;
        if self.kind == Kind::Json && self.left > 0 {
            return if self.gather() {
                ControlFlow::Continue(())
            } else {
                let message =
                    "too many large messages are in flight; try again, or raise limits.max_memory";
                let asked = Asked { path: Some(self.stream.name()), ..Asked::default() };
                self.daemon.refusals().refuse(Reason::MessageMemory, &asked, message);
                ControlFlow::Break(Err(Broken(message.to_owned())))
            };
        }
        self.put_data(true);
        self.put_place(Place {
            next: self.next(),
            up_to_date: self.stream.extent().head == position,
        });
        if self.is_over() { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
        Err(Broken(format!("offsets {} to {} were lost", gap.from, gap.to)))
    }

    fn caught_up(&mut self, position: u64) {
        self.reserved = None;
        self.position = position;
        let place = Place { next: self.next(), up_to_date: true };
        if self.told != Some(place) {
            self.put_place(place);
        }
    }

    fn end(&mut self, end: End, position: u64) -> Result<(), Broken> {
        if !matches!(end, End::Closed | End::Failed) {
            return Err(Broken(format!("the reader ended: {end}")));
        }
        self.position = position;
        self.put_data(false);
        if end == End::Failed {
            // A client that reconnects at this position is refused.
            self.put_place(Place { next: position, up_to_date: true });
            return Err(Broken("the stream was closed as failed".to_owned()));
        }
        let next = Token::new(&self.stream, position);
        let control =
            format!("{{\"streamNextOffset\":\"{next}\",\"streamClosed\":true,\"upToDate\":true}}");
        put_event(&mut self.out, Spacing::Compact, Some("control"), None, &control);
        Ok(())
    }

    fn keep_alive(&self) -> Option<Duration> {
        Some(KEEP_ALIVE)
    }

    fn ping(&mut self) -> ControlFlow<()> {
        self.put_place(Place { next: self.next(), up_to_date: true });
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(kind: Kind, chunks: &[&[u8]]) -> Events {
        let daemon = Arc::new(Daemon::new(&pfs_host::Settings::default()));
        let stream = Stream::new("s", pfs_stream::StreamConfig::default()).unwrap();
        let mut events = Events::new(daemon, stream, kind, None);
        for chunk in chunks {
            events.piece(chunk.len(), true);
            events.buffer().extend_from_slice(chunk);
        }
        events
    }

    /// Events as text, without the contents of control events.
    fn written(events: &mut Events) -> String {
        let text = String::from_utf8(events.take()).unwrap();
        let shown = |event: &str| match event.strip_prefix("event: control\n") {
            Some(_) => "control ".to_owned(),
            None => format!("{event:?} "),
        };
        text.split_terminator("\n\n").map(shown).collect()
    }

    #[test]
    fn each_data_event_is_followed_by_a_control_event() {
        for (kind, data) in [
            (Kind::Text, r#""event: data\ndata:1\ndata:2" control "#),
            (Kind::Binary, r#""event: data\ndata:MQoy" control "#),
            (Kind::Json, r#""event: data\ndata:[1,2]" control "#),
        ] {
            let mut events = events(kind, &[b"1\n", b"2"]);
            assert!(events.data(3).is_continue());
            assert_eq!(written(&mut events), data);
            assert!(events.out.is_empty() && events.buffer().is_empty());
        }
    }

    #[test]
    fn an_incomplete_character_at_the_end_of_a_text_is_still_sent() {
        let mut events = events(Kind::Text, &["€".as_bytes().split_at(2).0]);
        assert!(events.data(2).is_continue());
        assert_eq!(written(&mut events), "control ");
        assert_eq!(
            events.told.map(|place| place.next),
            Some(0),
            "no part of the chunk was shown yet"
        );
        events.end(End::Closed, 2).unwrap();
        assert_eq!(written(&mut events), "\"event: data\\ndata:\u{fffd}\" control ");
    }

    #[test]
    fn a_failed_stream_sends_all_its_bytes_and_then_breaks_the_response() {
        let mut events = events(Kind::Text, &["€".as_bytes().split_at(2).0]);
        assert!(events.data(2).is_continue());
        events.take();
        assert!(events.end(End::Failed, 2).is_err());
        let told = String::from_utf8(events.take()).unwrap();
        assert!(told.contains('\u{fffd}') && !told.contains("streamClosed"), "{told}");
        assert_eq!(
            events.told.map(|place| place.next),
            Some(2),
            "the client resumes after all that it was shown"
        );
    }

    #[test]
    fn a_large_message_without_memory_for_it_breaks_the_response_and_is_counted() {
        let mut events = events(Kind::Json, &[]);
        let _all = events.daemon.leaving().reserve(events.daemon.leaving().limit()).unwrap();
        events.buffer().extend(b"[1,");
        events.part(3, 100_000);
        assert!(matches!(events.data(3), ControlFlow::Break(Err(_))));
        let refused = (Reason::MessageMemory.name(), 1);
        assert!(events.daemon.refusals().counts().contains(&refused));
    }

    #[test]
    fn a_response_ends_after_its_lifetime_whether_it_is_idle_or_not() {
        let mut events = events(Kind::Text, &[b"x"]);
        assert!(events.ping().is_continue());
        events.until = Some(Instant::now());
        assert!(events.ping().is_break() && events.data(1).is_break());
    }

    #[test]
    fn a_client_that_is_up_to_date_is_told_so_once() {
        let mut events = events(Kind::Json, &[]);
        events.caught_up(0);
        assert!(String::from_utf8(events.take()).unwrap().contains(r#""upToDate":true"#));
        events.caught_up(0);
        assert!(events.take().is_empty());
    }
}
