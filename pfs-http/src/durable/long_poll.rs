//! Long-poll: reads that wait for a while until there are bytes.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::Edge;

use super::{cache, catch_up, headers, page, read::Reading, refusal::Refusal};
use crate::Site;

/// Answers a read that waits.
pub(super) async fn answer(
    site: &Site,
    reading: &Reading<'_>,
    request: &HeaderMap,
) -> Result<Response, Refusal> {
    let stream = &reading.stream;
    let _alive = stream.hold();
    let mut page = reading.page()?;
    let mut edge = page.fill();
    if matches!(edge, Ok(Edge::Head)) && page.is_empty() {
        let limit = site.current().limits.long_poll_time;
        edge = page.wait(limit).await;
    }
    let edge = edge.map_err(|error| reading.refusal(error))?;
    let nothing = page.is_empty();
    if nothing && edge == Edge::Failed {
        return Err(reading.failed());
    }
    let (span, body) = page::finish(page, edge, stream, reading.kind());
    let mut response = if nothing {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        catch_up::put_place(headers, stream, span.next, true, span.closed);
        headers.insert(header::CACHE_CONTROL, headers::NO_STORE);
        response
    } else {
        let mut response = catch_up::page(site, stream, span, body, request)?;
        let keeps = if reading.is_fixed() { cache::IMMUTABLE } else { cache::PASSING };
        response.headers_mut().insert(header::CACHE_CONTROL, keeps);
        response
    };
    let cursor = cache::cursor(reading.query.cursor.as_deref());
    response.headers_mut().insert(headers::CURSOR, cursor.into());
    Ok(response)
}
