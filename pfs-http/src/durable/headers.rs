//! Header names of the protocol, and their values.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{offset::Token, refusal::Refusal};

pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
pub(super) const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
pub(super) const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
pub(super) const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
pub(super) const SEQ: HeaderName = HeaderName::from_static("stream-seq");
pub(super) const TTL: HeaderName = HeaderName::from_static("stream-ttl");
pub(super) const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
pub(super) const SSE_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
pub(super) const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
pub(super) const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
pub(super) const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
pub(super) const PRODUCER_EXPECTED_SEQ: HeaderName =
    HeaderName::from_static("producer-expected-seq");
pub(super) const PRODUCER_RECEIVED_SEQ: HeaderName =
    HeaderName::from_static("producer-received-seq");

/// Offset at which the ring begins; an extension of the protocol, which has no header
/// for retention.
pub(super) const EARLIEST_OFFSET: HeaderName = HeaderName::from_static("stream-earliest-offset");

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Forbids browsers to embed the contents in pages of other origins.
pub(super) fn secure(headers: &mut HeaderMap) {
    let policy = headers.entry(CROSS_ORIGIN_RESOURCE_POLICY);
    policy.or_insert(HeaderValue::from_static("same-origin"));
}

/// Whether the client asks to close the stream. Any value except `true` is ignored.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    headers.get(CLOSED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Value of an optional header, which must be text and must not be repeated.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::bad_request(format!("{name} was given more than once")));
    }
    let text =
        value.to_str().map_err(|_| Refusal::bad_request(format!("{name} is not ASCII text")))?;
    Ok(Some(text.trim()))
}

/// Header value of ASCII text.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

pub(super) fn put_offset(headers: &mut HeaderMap, offset: Token) {
    headers.insert(NEXT_OFFSET, value(&offset.to_string()));
}

pub(super) fn put_closed(headers: &mut HeaderMap, closed: bool) {
    if closed {
        headers.insert(CLOSED, TRUE);
    }
}
