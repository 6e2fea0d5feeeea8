//! Plain HTTP: a stream at its own path. PUT and POST append, GET follows, HEAD returns stats as
//! headers, and DELETE removes.
//!
//! A client that knows nothing about streams must not be misled: if it does not get a response in
//! full, the connection breaks.

mod conditions;
mod events;
mod follow;
mod large;
mod listing;
mod pass_on;
mod query;
mod range;
mod raw;
mod sse;
mod stat_headers;
mod upload;

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use pfs_host::{Caller, Place};
use pfs_proto::StreamPath;

use self::{
    conditions::{if_match, if_none_match},
    query::Query,
};
pub(crate) use self::{
    raw::Raw,
    stat_headers::OFFSET,
    upload::{Close, append},
};
use super::{Site, presence::Presence, problem::Problem};

/// Methods of a listing or document.
const READ_ONLY: &str = "GET, HEAD, OPTIONS";

/// Methods of a stream.
const ALL: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// Directory, document or stream at a path.
enum Target {
    /// All streams below a path, the path of a listing.
    Directory(String),
    Document(&'static str),
    Stream(StreamPath),
}

/// Serves the paths that no other protocol claims.
pub(crate) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Extension(presence): Extension<Presence>,
    request: Request,
) -> Response {
    // HEAD of a listing or document is answered like GET; `answer::finish` removes the body.
    answer(&site, &caller, &presence, request).await.unwrap_or_else(Problem::into_response)
}

async fn answer(
    site: &Arc<Site>,
    caller: &Caller,
    presence: &Presence,
    request: Request,
) -> Result<Response, Problem> {
    let target = target(site, request.uri())?;
    let method = request.method().clone();
    match target {
        Target::Directory(path) => match method {
            Method::GET | Method::HEAD => {
                let listing = site.daemon.listing(caller, &path)?;
                Query::from_uri(request.uri(), &[])?;
                listing::answer(site, listing).await
            }
            method => Ok(refused(&method, READ_ONLY)),
        },
        Target::Document(text) => match method {
            Method::GET | Method::HEAD => {
                Query::from_uri(request.uri(), &[])?;
                Ok(text.into_response())
            }
            method => Ok(refused(&method, READ_ONLY)),
        },
        Target::Stream(path) => match method {
            Method::GET => {
                // Drop the unused body of the GET, which would otherwise be kept while the
                // read waits.
                let (head, _) = request.into_parts();
                follow::answer(site, caller, &path, &head).await
            }
            Method::HEAD => {
                let place = site.daemon.readable(caller, &path)?;
                Query::from_uri(request.uri(), &[])?;
                let stream = place.existing().await?;
                if_match(request.headers(), &path, Some(stream.identity()))?;
                Ok(stat_headers::answer(stream.identity(), place.stat_of(&stream).await?))
            }
            Method::PUT | Method::POST => {
                let place = site.daemon.writable(caller, &path)?.in_request();
                // Boxed: this future is four times as large as the others here, and every GET would
                // reserve room for it.
                Box::pin(upload::answer(&place, presence, request)).await
            }
            Method::DELETE => {
                let place = site.daemon.writable(caller, &path)?;
                Query::from_uri(request.uri(), &[])?;
                if place.is_elsewhere() {
                    return pass_on::remove(&place, request.headers()).await;
                }
                let stream = place.existing().await?;
                if_match(request.headers(), &path, Some(stream.identity()))?;
                if_none_match(request.headers(), &path, stream.identity())?;
                place.remove(&stream).await?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            method => Ok(refused(&method, ALL)),
        },
    }
}

fn target(site: &Site, uri: &Uri) -> Result<Target, Problem> {
    let bad = |reason: &str| {
        let message =
            format!("{} is not a path: {reason}", uri.path().get(..64).unwrap_or(uri.path()));
        Problem::new(StatusCode::BAD_REQUEST, "bad_path", message)
    };
    let path = percent_decode_str(uri.path()).decode_utf8();
    let path = path.map_err(|_| bad("its percent-encoded bytes are not UTF-8"))?;
    let namespace = &site.daemon.namespace;
    if path.ends_with('/') || namespace.mounts().any(|mount| mount == path) {
        return Ok(Target::Directory(path.into_owned()));
    }
    let path: StreamPath =
        path.parse().map_err(|error: pfs_proto::PathError| bad(&error.to_string()))?;
    Ok(match namespace.place(&path)? {
        Place::Document(text) => Target::Document(text),
        Place::Stream(_) => Target::Stream(path),
    })
}

/// Answers a method that is not one of `allowed`. Also answers OPTIONS, which asks for the methods.
fn refused(method: &Method, allowed: &'static str) -> Response {
    let mut response = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let message = format!("{method} is not supported here; supported: {allowed}");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
    };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
