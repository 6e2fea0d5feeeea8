//! Checks of an HTTP response, whatever the request was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::from_utf8,
    sync::LazyLock,
};

use pfs_proto::{Decoder, MEDIA_TYPE, Reply};
use serde_json::{Value, value::RawValue};

use crate::{request::Request, world::World};

/// A response, or the part of it that came.
pub struct Answer {
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// True if the body is complete.
    pub whole: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(500)];
        write!(
            f,
            "{}, {} bytes, whole: {}: \"{}\"",
            self.status,
            self.body.len(),
            self.whole,
            shown.escape_ascii()
        )?;
        self.headers
            .iter()
            .try_for_each(|(name, value)| write!(f, ", {name}: {}", value.escape_ascii()))
    }
}

impl Answer {
    /// The value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)?;
        from_utf8(value).ok()
    }

    /// Returns true if the response was sent before the router ran: the bytes were not a request,
    /// they came too slowly, or the server is full.
    fn is_early(&self) -> bool {
        matches!(self.status, 400 | 408 | 414 | 429 | 431 | 503)
            && self.header("content-security-policy").is_none()
    }

    /// Checks a response. `asked` is the request, if it is known.
    pub fn check(&self, world: &World, asked: Option<&Request>) {
        for (name, value) in &self.headers {
            let is_control = |byte: &u8| *byte < b' ' || *byte == 0x7f;
            assert!(!value.iter().any(is_control), "{name} has a control character: {self:?}");
        }
        assert!(self.status < 500 || matches!(self.status, 501 | 503 | 505), "{self:?}");
        let is_known = match asked {
            Some(asked) => documented(asked).contains(&self.status),
            None => CONTRACT.all.contains(&self.status),
        };
        let is_known = is_known
            || self.is_early()
            || self.status == 505 && asked.is_none_or(|asked| asked.old);
        assert!(is_known, "the status is not documented for {asked:?}: {self:?}");

        let has_body =
            asked.is_none_or(|asked| asked.method != "HEAD") && !matches!(self.status, 204 | 304);
        assert!(has_body || self.body.is_empty(), "{self:?}");
        if self.status >= 400
            && has_body
            && self.whole
            && !(self.is_early() && self.body.is_empty())
        {
            self.check_problem();
        }
        if self.status < 300 {
            self.check_policy();
            self.check_contents(world);
            self.check_format(asked);
        }
    }

    /// An error response explains itself to programs and to people.
    fn check_problem(&self) {
        let problem: Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let message = match &problem["error"] {
            Value::String(message) => message,
            error => {
                assert!(error["code"].as_str().is_some_and(|code| !code.is_empty()), "{self:?}");
                error["message"].as_str().unwrap_or_default()
            }
        };
        assert!(!message.is_empty() && !message.ends_with('.'), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
    }

    /// Stored contents never run as a page of this origin.
    fn check_policy(&self) {
        let policy = self.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'"), "{self:?}");
        let is_own = policy.contains("script-src 'self'");
        assert!(is_own || policy.contains("sandbox"), "{self:?}");
        assert!(self.header("pfs-start").is_none() || !is_own, "{self:?}");
    }

    /// A stream that existed at the start returns the bytes that were written to it.
    fn check_contents(&self, world: &World) {
        let Some(start) = self.header("pfs-start").and_then(|start| start.parse::<usize>().ok())
        else {
            return;
        };
        let Some(tag) = self.header("etag") else { return };
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        let Some(known) = world.known.iter().find(|known| known.identity.to_string() == tag) else {
            return;
        };
        let expected = known.contents.get(start..).unwrap_or_default();
        let header = self.header("pfs-header-bytes").map_or(0, |len| len.parse().unwrap());
        let body = self.body.get(header..).unwrap_or_default();
        let len = expected.len().min(body.len());
        assert!(
            body[..len] == expected[..len],
            "the response has other bytes than the stream: {self:?}"
        );
    }

    fn check_format(&self, asked: Option<&Request>) {
        let is_contents = self.header("pfs-start").is_some();
        match self.header("content-type") {
            Some("text/event-stream") => check_events(&self.body),
            Some(MEDIA_TYPE)
                if !is_contents && asked.is_none_or(|asked| asked.target == "/v1/frames") =>
            {
                check_frames(&self.body, self.whole);
            }
            // The bytes of a stream are JSON only if its writers wanted that; only Durable Streams
            // enforce it.
            Some("application/json") if !is_contents && self.whole && !self.body.is_empty() => {
                // Not parsed as a `Value`: JSON has numbers that none of our types holds.
                let parsed = serde_json::from_slice::<&RawValue>(&self.body);
                assert!(parsed.is_ok(), "{self:?}");
            }
            _ => {}
        }
    }
}

/// Every line is a field of an event. Otherwise a page could be told something that its writer did
/// not say.
fn check_events(body: &[u8]) {
    let mut lines = body.split(|byte| *byte == b'\n');
    // The last line may be incomplete.
    lines.next_back();
    for line in lines {
        let line = from_utf8(line).expect("events are text");
        let fields = ["data:", "event: ", "id: ", ":"];
        assert!(
            line.is_empty() || fields.iter().any(|field| line.starts_with(field)),
            "{line:?} is not a field"
        );
        assert!(!line.contains('\r'), "{line:?} contains another line end");
    }
}

fn check_frames(body: &[u8], whole: bool) {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(body);
    while let Some(frame) = decoder.next_frame().expect("frames") {
        Reply::decode(frame).expect("a reply");
    }
    assert!(!whole || decoder.is_empty(), "the body ends inside a frame");
}

/// Statuses from the API's description.
struct Contract {
    /// By path and method.
    operations: BTreeMap<(String, String), BTreeSet<u16>>,
    all: BTreeSet<u16>,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let description = include_str!("../../../pfs-http/src/operations/openapi.json");
    let description: Value = serde_json::from_str(description).expect("JSON");
    let mut operations = BTreeMap::new();
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let Some(responses) = operation["responses"].as_object() else { continue };
            let statuses: BTreeSet<u16> =
                responses.keys().map(|status| status.parse().unwrap()).collect();
            operations.insert((path.clone(), method.to_uppercase()), statuses);
        }
    }
    let mut all: BTreeSet<u16> = operations.values().flatten().copied().collect();
    all.extend([405, 501]);
    Contract { operations, all }
});

/// The documented statuses for a request.
fn documented(asked: &Request) -> BTreeSet<u16> {
    let path = asked.target.split('?').next().unwrap_or_default();
    let template = match path {
        "/" | "/healthz" | "/metrics" | "/openapi.json" | "/v1/frames" => path,
        _ if path.starts_with("/assets/") => "/assets/{file}",
        _ if path.starts_with("/v1/stream/") && path != "/v1/stream/" => "/v1/stream/{name}",
        _ if path.starts_with("/api/v1/") => path,
        _ if path.ends_with('/') => "/streamfs/",
        _ => "/streamfs/{name}",
    };
    let of = |method: &str| CONTRACT.operations.get(&(template.to_owned(), method.to_owned()));
    // HEAD is GET without the body, unless HEAD is documented separately.
    let of_head = || (asked.method == "HEAD").then(|| of("GET")).flatten();
    match of(asked.method).or_else(of_head) {
        Some(statuses) => statuses.clone(),
        // Responses to OPTIONS, and to methods and paths that do not exist.
        None => BTreeSet::from([200, 204, 400, 401, 403, 404, 405, 421, 431]),
    }
}
