//! Requests, generated from a few bytes each, most of them meaningful to a handler.

use std::fmt;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use pfs_proto::MEDIA_TYPE;

use crate::{
    frames, tokens,
    world::{Known, PATHS},
};

/// A request, independent of the HTTP version.
pub struct Request {
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// True for HTTP/1.0 on an HTTP/1.1 connection.
    pub old: bool,
    /// Headers, without those of the body.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Body,
}

/// The body of a request.
pub struct Body {
    pub pieces: Vec<Vec<u8>>,
    /// True if a non-empty body is preceded by its length.
    pub has_length: bool,
    /// True if the body ends; otherwise the client falls silent.
    pub ends: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, old, headers, body } = self;
        write!(f, "{method} {target}{}", if *old { " HTTP/1.0" } else { "" })?;
        headers
            .iter()
            .try_for_each(|(name, value)| write!(f, ", {name}: {}", value.escape_ascii()))?;
        let Body { pieces, has_length, ends } = body;
        for piece in pieces {
            write!(
                f,
                ", {} bytes \"{}\"",
                piece.len(),
                piece[..piece.len().min(60)].escape_ascii()
            )?;
        }
        write!(f, ", has length: {has_length}, ends: {ends}")
    }
}

impl Body {
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }
}

/// Protocols whose requests differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Plain,
    Durable,
    Agfs,
    Frames,
    Other,
}

impl Request {
    pub fn arbitrary(u: &mut Unstructured<'_>, known: &[Known], with_tokens: bool) -> Result<Self> {
        let protocol = match u.int_in_range(0..=15)? {
            0..=6 => Protocol::Plain,
            7..=10 => Protocol::Durable,
            11..=12 => Protocol::Agfs,
            13 => Protocol::Frames,
            _ => Protocol::Other,
        };
        let method = match (protocol, u.int_in_range(0..=15)?) {
            (Protocol::Frames, 0..=13) => "POST",
            (Protocol::Other, 0..=11) => "GET",
            (_, 0..=4) => "GET",
            (_, 5..=7) => "PUT",
            (_, 8..=10) => "POST",
            (_, 11) => "HEAD",
            (_, 12) => "DELETE",
            (_, 13) => "OPTIONS",
            (_, 14) => "PATCH",
            _ => "TRACE",
        };
        let mut target = path(u, protocol)?;
        put_query(u, protocol, method, &mut target, known)?;
        let mut headers = Vec::new();
        for _ in 0..count(u)? {
            headers.push(header(u, known)?);
        }
        if with_tokens && u.int_in_range(0..=7)? < 7 {
            headers.push(("authorization", token(u)?));
        }
        let takes_body = matches!(method, "PUT" | "POST");
        let body = if protocol == Protocol::Frames && method == "POST" {
            headers.push(("content-type", MEDIA_TYPE.into()));
            frames::body(u)?
        } else if takes_body || u.int_in_range(0..=15)? == 15 {
            if protocol == Protocol::Durable && u.int_in_range(0..=7)? < 7 {
                headers.push(("content-type", media_type(u)?));
            }
            body(u)?
        } else {
            Body { pieces: Vec::new(), has_length: false, ends: true }
        };
        Ok(Self { method, target, old: u.int_in_range(0..=31)? == 31, headers, body })
    }

    /// Encodes the request for HTTP/1.1.
    pub fn encode(&self) -> Vec<u8> {
        let Self { method, target, old, headers, body } = self;
        let version = if *old { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut wire = format!("{method} {target} {version}\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| *name == "host") {
            wire.extend(b"host: 127.0.0.1:4437\r\n");
        }
        for (name, value) in headers {
            wire.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if body.has_length {
            // A client that falls silent has promised one byte more than it sends.
            let length = body.len() + usize::from(!body.ends);
            wire.extend(format!("content-length: {length}\r\n\r\n").into_bytes());
            wire.extend(body.pieces.concat());
        } else if body.pieces.is_empty() && body.ends {
            wire.extend(b"\r\n");
        } else {
            wire.extend(b"transfer-encoding: chunked\r\n\r\n");
            for piece in body.pieces.iter().filter(|piece| !piece.is_empty()) {
                wire.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                wire.extend([piece, &b"\r\n"[..]].concat());
            }
            if body.ends {
                wire.extend(b"0\r\n\r\n");
            }
        }
        wire
    }
}

/// A count, mostly small.
fn count(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok([0, 0, 0, 1, 1, 1, 2, 3][u.int_in_range(0..=7)?])
}

/// The path of a stream, mostly of an existing one.
pub fn stream(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=31)? {
        at @ 0..=29 => PATHS[at % PATHS.len()].into(),
        30 => [b"/streamfs/", text(u)?].concat(),
        _ => (*u.choose(&[
            "/streamfs",
            "/streamfs/",
            "/streamfs/lab",
            "/streamfs/README",
            "/",
            "/other/s",
        ])?)
        .into(),
    })
}

fn path(u: &mut Unstructured<'_>, protocol: Protocol) -> Result<String> {
    let stream = stream(u)?;
    Ok(match protocol {
        Protocol::Plain => encoded(&stream, true),
        Protocol::Durable => {
            let name = stream.strip_prefix(b"/streamfs").unwrap_or(&stream);
            format!("/v1/stream{}", encoded(name, true))
        }
        Protocol::Agfs => {
            let call =
                u.choose(&["files", "files", "files", "stat", "directories", "health", "other"])?;
            format!("/api/v1/{call}?path={}", encoded(&stream, false))
        }
        Protocol::Frames => "/v1/frames".to_owned(),
        Protocol::Other => (*u.choose(&[
            "/metrics",
            "/metrics",
            "/healthz",
            "/openapi.json",
            "/",
            "/assets/dashboard.js",
            "/assets/dashboard.css",
            "/assets/follow.js",
            "/assets/none",
            "/favicon.ico",
            "/v1",
            "/api/v1",
            "*",
        ])?)
        .to_owned(),
    })
}

const FLAG: &[&str] = &["", "true", "false"];
const SIZE: &[&str] = &["1", "10", "1000", "1KB", "4KiB", "1.5MB", "16MB", "8192TB", "0"];
const TIME: &[&str] = &["10m", "1s", "1ns", "584554049years%2099999999999999s", "0s"];

/// Keys with their possible values; without values, a key takes a number.
type Keys = &'static [(&'static str, &'static [&'static str])];

const READ: Keys = &[
    ("from", &[]),
    ("tail", SIZE),
    ("since", TIME),
    ("until", &["caught-up", "closed", "writers-gone"]),
    ("slow", &["block", "drop", "disconnect"]),
    ("wait", FLAG),
    ("stat", FLAG),
];
const APPEND: Keys = &[
    ("close", &["", "failed", "true", "false"]),
    ("create", FLAG),
    ("replace", FLAG),
    ("ring-buffer-size", SIZE),
    ("channel-buffer-size", SIZE),
    ("ttl", TIME),
];
const DURABLE: Keys = &[
    ("offset", &["-1", "now"]),
    ("live", &["sse", "long-poll"]),
    ("cursor", &[]),
    ("offset", &[]),
];
const AGFS: Keys = &[
    ("stream", &["true"]),
    ("offset", &[]),
    ("size", &[]),
    ("recursive", &["true"]),
    ("until", &["caught-up", "closed"]),
];

/// Values of keys in general.
const VALUES: &[&str] = &[
    "oldest",
    "newest",
    "-1",
    "0",
    "now",
    "block",
    "18446744073709551615",
    "-9223372036854775808",
    "%00",
];

fn put_query(
    u: &mut Unstructured<'_>,
    protocol: Protocol,
    method: &str,
    target: &mut String,
    known: &[Known],
) -> Result<()> {
    let keys = match protocol {
        Protocol::Plain if method == "GET" => READ,
        Protocol::Plain => APPEND,
        Protocol::Durable => DURABLE,
        Protocol::Agfs => AGFS,
        Protocol::Frames | Protocol::Other => *u.choose(&[READ, APPEND, DURABLE, AGFS])?,
    };
    for _ in 0..count(u)? {
        target.push(if target.contains('?') { '&' } else { '?' });
        let (key, values) = *u.choose(keys)?;
        let value = match u.int_in_range(0..=15)? {
            0..=9 if !values.is_empty() => (*u.choose(values)?).to_owned(),
            0..=11 => {
                let at = u.choose_index(known.len())?;
                let offset = offset(u, known, at)?;
                // The offset format of Durable Streams.
                if protocol == Protocol::Durable {
                    format!("{}_{offset:020}", known[at].identity)
                } else {
                    offset.to_string()
                }
            }
            12..=13 => (*u.choose(VALUES)?).to_owned(),
            _ => encoded(text(u)?, false),
        };
        if u.int_in_range(0..=31)? == 31 {
            target.push_str(&encoded(text(u)?, false));
        } else {
            target.push_str(key);
        }
        target.push_str(&format!("={value}"));
    }
    Ok(())
}

/// An offset, mostly one that is meaningful for this stream.
fn offset(u: &mut Unstructured<'_>, known: &[Known], at: usize) -> Result<u64> {
    let head = known[at].contents.len() as u64;
    Ok(match u.int_in_range(0..=7)? {
        0 => 0,
        1..=2 => head,
        3 => head + 1,
        4 => head / 2,
        5 => u64::from(u.arbitrary::<u8>()?),
        6 => u64::MAX,
        _ => u64::from(u.arbitrary::<u16>()?),
    })
}

fn header(u: &mut Unstructured<'_>, known: &[Known]) -> Result<(&'static str, Vec<u8>)> {
    let name = *u.choose(&[
        "range",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "accept",
        "accept",
        "last-event-id",
        "content-type",
        "host",
        "origin",
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
        "authorization",
        "expect",
        "connection",
        "accept-encoding",
        "stream-ttl",
        "stream-expires-at",
        "stream-closed",
        "stream-seq",
        "producer-id",
        "producer-epoch",
        "producer-seq",
        "pfs-pid",
        "x-forwarded-for",
        "access-control-request-method",
        "access-control-request-headers",
        "access-control-request-private-network",
        "stream-forked-from",
        "te",
        "x-large",
    ])?;
    // Occasionally an arbitrary value.
    let about = if u.int_in_range(0..=31)? == 31 { "any" } else { name };
    let value = match about {
        "range" => {
            let at = u.choose_index(known.len())?;
            let (first, last) = (offset(u, known, at)?, offset(u, known, at)?);
            match u.int_in_range(0..=7)? {
                0..=2 => format!("bytes={first}-"),
                3..=4 => format!("bytes={first}-{last}"),
                5 => format!("bytes=-{last}"),
                6 => format!("bytes={first}-{last},{last}-"),
                _ => "bytes=0-".to_owned(),
            }
        }
        "if-range" | "if-match" | "if-none-match" => {
            let identity = known[u.choose_index(known.len())?].identity;
            match u.int_in_range(0..=7)? {
                0..=2 => format!("\"{identity}\""),
                3 => format!("W/\"{identity}\""),
                4 => "*".to_owned(),
                5 => format!("\"x\", \"{identity}\""),
                6 => format!("\"{identity}:0:{}:c\"", u.arbitrary::<u8>()?),
                _ => "Wed, 21 Oct 2015 07:28:00 GMT".to_owned(),
            }
        }
        "last-event-id" => {
            let at = u.choose_index(known.len())?;
            let identity = known[at].identity.to_string();
            // An identity of one of this daemon's streams, or one that never existed.
            let identity = if u.arbitrary()? { identity } else { "1-1".to_owned() };
            format!("{identity}:{}", offset(u, known, at)?)
        }
        "accept" => (*u.choose(&[
            "text/event-stream",
            "text/event-stream",
            "*/*",
            "text/html, text/event-stream;q=0",
            "application/openmetrics-text; version=1.0.0",
        ])?)
        .to_owned(),
        "content-type" => return Ok((name, media_type(u)?)),
        "authorization" => return Ok((name, token(u)?)),
        "host" => (*u.choose(&[
            "localhost",
            "streams.example.org:80",
            "STREAMS.example.org.",
            "[::1]:4437",
            "evil.example.org",
            "a:b:c",
            "user@localhost",
            "",
        ])?)
        .to_owned(),
        "origin" => (*u.choose(&[
            "https://player.example.org",
            "https://player.example.org:443",
            "http://127.0.0.1:4437",
            "https://evil.example.org",
            "null",
        ])?)
        .to_owned(),
        "sec-fetch-site" => {
            (*u.choose(&["cross-site", "same-site", "same-origin", "none"])?).to_owned()
        }
        "sec-fetch-mode" => {
            (*u.choose(&["navigate", "no-cors", "cors", "same-origin"])?).to_owned()
        }
        "sec-fetch-dest" => (*u.choose(&["document", "video", "image", "empty"])?).to_owned(),
        "expect" => "100-continue".to_owned(),
        "connection" => (*u.choose(&["close", "keep-alive", "upgrade", "te"])?).to_owned(),
        "stream-closed" => "true".to_owned(),
        "stream-expires-at" => (*u.choose(&[
            "2999-01-01T00:00:00Z",
            "1970-01-01T00:00:00+23:59",
            "2024-02-30T00:00:00Z",
        ])?)
        .to_owned(),
        "access-control-request-method" => (*u.choose(&["GET", "PUT", "PATCH"])?).to_owned(),
        "x-large" => "x".repeat(u.int_in_range(0..=5000)?),
        "any" => return Ok((name, value(text(u)?))),
        _ => match u.int_in_range(0..=3)? {
            0..=2 => u64::from(u.arbitrary::<u8>()? / 16).to_string(),
            _ => return Ok((name, value(text(u)?))),
        },
    };
    Ok((name, value.into_bytes()))
}

fn token(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let token =
        *u.choose(&[tokens::ALL, tokens::ALL, tokens::ALL, tokens::READER, tokens::WRITER, "x"])?;
    Ok(format!("Bearer {token}").into_bytes())
}

fn media_type(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=9)? {
        0..=2 => b"application/json".to_vec(),
        3..=4 => b"application/octet-stream".to_vec(),
        5 => b"text/plain; charset=utf-8".to_vec(),
        6 => b"video/mp2t".to_vec(),
        7 => b"text/csv".to_vec(),
        8 => MEDIA_TYPE.into(),
        _ => value(text(u)?),
    })
}

fn body(u: &mut Unstructured<'_>) -> Result<Body> {
    let mut pieces = Vec::new();
    for _ in 0..1 + count(u)? {
        pieces.push(match u.int_in_range(0..=7)? {
            0..=1 => text(u)?.into(),
            2..=3 => (*u.choose(&[
                &b"[1, [2], {\"three\": 3}]"[..],
                b"{\"a\": 1}",
                b"[]",
                b"[",
                b"]",
                b"",
                b"\xff\xfe\xe2\x82",
                b"\r",
                b"\n\ndata: x\r\n",
            ])?)
            .to_vec(),
            4..=6 => vec![u.arbitrary()?; u.arbitrary::<u8>()?.into()],
            // Larger than a stream's largest chunk, or than a whole stream.
            _ => vec![u.arbitrary()?; u.int_in_range(0..=24_000)?],
        });
    }
    finish_body(u, pieces)
}

pub fn finish_body(u: &mut Unstructured<'_>, pieces: Vec<Vec<u8>>) -> Result<Body> {
    Ok(Body { pieces, has_length: u.arbitrary()?, ends: u.int_in_range(0..=7)? < 7 })
}

/// Some of the bytes, unchanged.
pub fn text<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let len = u.int_in_range(0..=24)?.min(u.len());
    u.bytes(len)
}

/// Replaces bytes that a header value may not contain.
fn value(bytes: &[u8]) -> Vec<u8> {
    let allowed = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    bytes.iter().map(|byte| if allowed(*byte) { *byte } else { b'?' }).collect()
}

/// Percent-encodes bytes for a URL; with `slashes`, slashes stay unchanged.
fn encoded(bytes: impl AsRef<[u8]>, slashes: bool) -> String {
    let mut encoded = String::new();
    for byte in bytes.as_ref() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || slashes && *byte == b'/' {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
