//! Response headers: the stats of a stream, and the headers of every response that contains
//! its bytes.

use std::time::SystemTime;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use pfs_host::wide;
use pfs_proto::{Identity, State, StreamStat, json::timestamp};
use pfs_stream::Extent;

use super::conditions::{Strength, put_etag};

/// Offset of the first byte of a body, not counting a media header.
pub(crate) const START: HeaderName = HeaderName::from_static("pfs-start");
/// Size of the media header at the beginning of a body, in bytes. These bytes are not counted in
/// any offset.
pub(crate) const HEADER_BYTES: HeaderName = HeaderName::from_static("pfs-header-bytes");
/// Offsets that a reader skipped because a decoder cannot start there: the first, and the one after
/// the last.
pub(crate) const SKIPPED: HeaderName = HeaderName::from_static("pfs-skipped");
/// Offset after the last byte that was appended.
pub(crate) const OFFSET: HeaderName = HeaderName::from_static("pfs-offset");
const STATE: HeaderName = HeaderName::from_static("pfs-state");
const HEAD: HeaderName = HeaderName::from_static("pfs-head");
const TAIL: HeaderName = HeaderName::from_static("pfs-tail");
const READERS: HeaderName = HeaderName::from_static("pfs-readers");
const WRITERS: HeaderName = HeaderName::from_static("pfs-writers");
const WRITERS_DIED: HeaderName = HeaderName::from_static("pfs-writers-died");
const LOST_BYTES: HeaderName = HeaderName::from_static("pfs-lost-bytes");
const RING_BUFFER_SIZE: HeaderName = HeaderName::from_static("pfs-ring-buffer-size");
const CHANNEL_BUFFER_SIZE: HeaderName = HeaderName::from_static("pfs-channel-buffer-size");
const CREATED: HeaderName = HeaderName::from_static("pfs-created");
const LAST_APPEND: HeaderName = HeaderName::from_static("pfs-last-append");

/// Media type of a stream whose creator gave none.
const UNKNOWN: &str = "application/octet-stream";

/// Answers HEAD. The tag is strong, like that of a range, because the headers contain the offsets.
pub(crate) fn answer(identity: Identity, stat: StreamStat) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    put_etag(headers, identity, Strength::Strong);
    put_extent(headers, stat.state, stat.head, stat.tail);
    for (name, number) in [
        (READERS, wide(stat.readers.len())),
        (WRITERS, wide(stat.writers.len())),
        (WRITERS_DIED, stat.writers_died),
        (LOST_BYTES, stat.lost_bytes),
        (RING_BUFFER_SIZE, stat.ring_buffer_size),
        (CHANNEL_BUFFER_SIZE, stat.channel_buffer_size),
    ] {
        headers.insert(name, number.into());
    }
    put_time(headers, CREATED, Some(stat.created));
    put_time(headers, LAST_APPEND, stat.last_append);
    contents(headers, stat.content_type.as_deref());
    response
}

/// Adds the headers that every response about a stream has.
pub(crate) fn describe(headers: &mut HeaderMap, held: Extent) {
    let state = match held {
        Extent { failed: true, .. } => State::Failed,
        Extent { closed: true, .. } => State::Closed,
        _ => State::Open,
    };
    put_extent(headers, state, held.head, held.tail);
}

fn put_extent(headers: &mut HeaderMap, state: State, head: u64, tail: u64) {
    headers.insert(HEAD, head.into());
    headers.insert(TAIL, tail.into());
    if let Ok(state) = HeaderValue::from_str(&state.to_string()) {
        headers.insert(STATE, state);
    }
}

/// Adds the headers of a body with a stream's own bytes, of the media type that its creator gave.
pub(crate) fn contents(headers: &mut HeaderMap, content_type: Option<&str>) {
    let content_type = content_type.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static(UNKNOWN)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

fn put_time(headers: &mut HeaderMap, name: HeaderName, time: Option<SystemTime>) {
    if let Some(time) = time.and_then(|time| HeaderValue::from_str(&timestamp(time)).ok()) {
        headers.insert(name, time);
    }
}
