//! A stream's figures as headers, and what every response with a stream's bytes says besides.

use std::time::SystemTime;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use pfs_proto::json::timestamp;
use pfs_stream::{Stream, StreamStat, StreamSummary};

use crate::problem::Problem;

/// Offset of the first byte of a body.
pub(crate) const START: HeaderName = HeaderName::from_static("pfs-start");
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

/// What a stream is if nobody said.
const UNKNOWN: &str = "application/octet-stream";

/// Answers HEAD.
pub(crate) fn answer(stream: &Stream) -> Result<Response, Problem> {
    let StreamStat { writers_died, lost_bytes, ring_buffer_size, channel_buffer_size, content_type, .. } =
        stream.stat();
    let summary = stream.summary();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    describe(headers, &summary);
    for (name, figure) in [
        (READERS, u64::from(summary.readers)),
        (WRITERS, u64::from(summary.writers)),
        (WRITERS_DIED, writers_died),
        (LOST_BYTES, lost_bytes),
        (RING_BUFFER_SIZE, ring_buffer_size),
        (CHANNEL_BUFFER_SIZE, channel_buffer_size),
    ] {
        headers.insert(name, figure.into());
    }
    put_time(headers, CREATED, Some(summary.created));
    put_time(headers, LAST_APPEND, summary.last_append);
    contents(headers, content_type.as_deref());
    Ok(response)
}

/// What every response about a stream tells of it.
pub(crate) fn describe(headers: &mut HeaderMap, summary: &StreamSummary) {
    headers.insert(HEAD, summary.head.into());
    headers.insert(TAIL, summary.tail.into());
    if let Ok(state) = HeaderValue::from_str(&summary.state.to_string()) {
        headers.insert(STATE, state);
    }
}

/// The body is a stream's own bytes, of the media type that its creator gave.
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
