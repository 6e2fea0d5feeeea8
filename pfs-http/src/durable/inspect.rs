//! HEAD and DELETE of a stream.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use pfs_host::Caller;

use super::{cache, catch_up, headers, lifetime, media_type, refusal::Refusal, target};
use crate::Site;

/// HEAD: describes a stream and the position of its head. Does not renew the TTL of the stream.
pub(super) async fn head(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let path = target::path(&site, request.uri())?;
    let stream = site.daemon.readable(&caller, &path)?.existing().await?;
    let (extent, config) = (stream.extent(), stream.config());
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    if let Ok(media_type) = media_type::content_type(&stream).parse() {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CACHE_CONTROL, headers::NO_STORE);
    let etag = cache::etag(stream.identity(), extent.tail, extent.head, extent.is_complete());
    headers.insert(header::ETAG, headers::value(&etag));
    if let Some(ttl) = config.ttl {
        headers.insert(headers::TTL, ttl.as_secs().into());
    }
    if let Some(deadline) = config.deadline {
        headers.insert(headers::EXPIRES_AT, headers::value(&lifetime::shown(deadline)));
    }
    catch_up::put_place(headers, &stream, extent.head, false, extent.is_complete());
    Ok(response)
}

/// DELETE: removes a stream.
pub(super) async fn delete(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let path = target::path(&site, request.uri())?;
    let place = site.daemon.writable(&caller, &path)?;
    place.remove(&place.existing().await?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
