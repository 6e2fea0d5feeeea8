//! Follow: GET with `stream=true` follows a stream, and waits for a stream that does not exist yet.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, Method},
    response::Response,
};
use futures_util::TryFutureExt;
use http_body_util::{BodyStream, StreamBody};
use pfs_host::{Broken, Caller, Failure, Readable};
use pfs_proto::{ReadOptions, StreamPath, Until};
use pfs_stream::Reader;

use super::{files::octets, refusal::Refusal};
use crate::{Site, body::Following, plain::Raw, trailers};

/// Answers GET with `stream=true`. The response begins at once, as in AGFS: the SDK hands the
/// response to a program that may itself be the writer.
pub(super) async fn answer(
    site: Arc<Site>,
    caller: Caller,
    path: StreamPath,
    until_caught_up: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(text) = site.daemon.document(&caller, &path)? {
        return Ok(octets(text));
    }
    if *method == Method::HEAD {
        return Ok(octets(Body::empty()));
    }
    let until = if until_caught_up { Until::CaughtUp } else { Until::Closed };
    // A read up to the current head does not wait for a stream that does not exist.
    let options = ReadOptions { until, wait: !until_caught_up, ..ReadOptions::default() };
    let place = site.daemon.readable(&caller, &path)?;
    let has_trailers = trailers::are_accepted(headers);
    let octets = |body: Body| {
        let mut response = octets(body);
        if has_trailers {
            trailers::announce(response.headers_mut());
        }
        response
    };
    if until_caught_up {
        return Ok(octets(follow(&place, options, has_trailers).await?));
    }
    // A stream that was removed since `find` is waited for, like any other missing stream.
    if let Some(stream) = place.find().await?
        && let Ok(reader) = place.reader(&stream, options)
    {
        return Ok(octets(body(&place, reader, has_trailers)));
    }
    let later = async move {
        let place = site.daemon.readable(&caller, &path)?;
        follow(&place, options, has_trailers).await.map(BodyStream::new)
    };
    let later = later.map_err(|failure: Failure| axum::Error::new(Broken(failure.message)));
    Ok(octets(Body::new(StreamBody::new(later.try_flatten_stream()))))
}

async fn follow(
    place: &Readable<'_>,
    options: ReadOptions,
    has_trailers: bool,
) -> Result<Body, Failure> {
    Ok(body(place, place.attach(options).await?, has_trailers))
}

fn body(place: &Readable<'_>, reader: Reader, has_trailers: bool) -> Body {
    Body::new(Following::new(place.follow(reader, Raw::default())).with_trailers(has_trailers))
}
