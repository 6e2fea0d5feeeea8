//! Reads that wait a while for something to read.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::Failure;
use tokio::time::sleep;

use super::{
    cache, catch_up, headers,
    page::{Edge, PageReader},
    read::Reading,
    refusal::Refusal,
};
use crate::Site;

/// Answers a read that waits.
pub(super) async fn answer(site: &Site, reading: &Reading, request: &HeaderMap) -> Result<Response, Refusal> {
    let Reading { path, stream, query, .. } = reading;
    let _alive = stream.hold();
    let mut pages = PageReader::new(path.clone(), stream.clone(), reading.attach()?, reading.is_exact());
    let mut going = site.going();
    let mut edge = pages.fill()?;
    if edge == Edge::Head && pages.is_empty() {
        edge = tokio::select! {
            biased;
            () = going.begun() => return Err(Failure::going_away().into()),
            edge = pages.wait() => edge?,
            () = sleep(site.limits.long_poll_time) => Edge::Head,
        };
    }
    let nothing = pages.is_empty();
    let (page, body) = pages.finish(edge);
    let mut response = if nothing {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        catch_up::put_place(headers, stream, page.next, true, page.closed);
        headers.insert(header::CACHE_CONTROL, headers::NO_STORE);
        response
    } else {
        let mut response = catch_up::page(stream, page, body, request);
        let keeps = if reading.is_fixed() { cache::LASTING } else { cache::PASSING };
        response.headers_mut().insert(header::CACHE_CONTROL, keeps);
        response
    };
    let cursor = cache::cursor(query.cursor.as_deref());
    response.headers_mut().insert(headers::CURSOR, cursor.into());
    Ok(response)
}
