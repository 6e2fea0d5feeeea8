//! Catch-up reads: one page of the available bytes, without waiting.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::Edge;
use pfs_stream::Stream;

use super::{
    cache, headers,
    media_type::{self, Kind},
    offset::Token,
    page::{self, Span},
    query::From,
    read::Reading,
    refusal::Refusal,
};
use crate::{Site, limits};

/// Answers a read that does not wait.
pub(super) fn answer(
    site: &Site,
    reading: &Reading<'_>,
    request: &HeaderMap,
) -> Result<Response, Refusal> {
    let Reading { stream, query, .. } = reading;
    if query.from == From::Now {
        return Ok(now(stream));
    }
    let mut page = reading.page()?;
    let edge = page.fill().map_err(|error| reading.refusal(error))?;
    if edge == Edge::Failed && page.is_empty() {
        return Err(reading.failed());
    }
    let (span, body) = page::finish(page, edge, stream, reading.kind());
    // A page that reaches head changes with the next append, so it must not be cached as immutable.
    let lasting = reading.is_fixed() && !span.up_to_date;
    let mut response = self::page(site, stream, span, body, request)?;
    let keeps = if lasting { cache::IMMUTABLE } else { cache::PASSING };
    response.headers_mut().insert(header::CACHE_CONTROL, keeps);
    Ok(response)
}

/// Creates the response for a page. The response is 304 without the page if the client already
/// has it.
pub(super) fn page(
    site: &Site,
    stream: &Stream,
    span: Span,
    body: Vec<u8>,
    request: &HeaderMap,
) -> Result<Response, Refusal> {
    let Span { start, next, up_to_date, closed } = span;
    let etag = cache::etag(stream.identity(), start, next, closed);
    let mut response = if cache::is_known(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = limits::held_bytes(site, body)
            .map_err(|problem| Refusal::no_memory(&problem.message))?;
        body.into_response()
    };
    let headers = response.headers_mut();
    if let Ok(media_type) = media_type::content_type(stream).parse() {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::ETAG, headers::value(&etag));
    put_place(headers, stream, next, up_to_date, closed);
    Ok(response)
}

/// Adds the reader's position, and the earliest offset that can be read.
pub(super) fn put_place(
    headers: &mut HeaderMap,
    stream: &Stream,
    next: u64,
    up_to_date: bool,
    closed: bool,
) {
    headers::put_offset(headers, Token::new(stream, next));
    let earliest = Token::new(stream, stream.extent().tail);
    headers.insert(headers::EARLIEST_OFFSET, headers::value(&earliest.to_string()));
    if up_to_date {
        headers.insert(headers::UP_TO_DATE, headers::TRUE);
    }
    headers::put_closed(headers, closed);
}

/// Answers `offset=now`: the position of head, and no contents.
fn now(stream: &Stream) -> Response {
    let extent = stream.extent();
    let media_type = media_type::content_type(stream);
    let body = if Kind::from_media_type(media_type) == Kind::Json { "[]" } else { "" };
    let mut response = Body::from(body).into_response();
    let headers = response.headers_mut();
    if let Ok(media_type) = media_type.parse() {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CACHE_CONTROL, headers::NO_STORE);
    put_place(headers, stream, extent.head, true, extent.is_complete());
    response
}
