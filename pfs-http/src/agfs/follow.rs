//! GET with `stream=true`: follows a stream, and waits for one that does not exist yet.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use futures_util::TryFutureExt;
use pfs_host::{Broken, Failure, Place};
use pfs_proto::{ReadOptions, StreamPath, Until};

use super::{files::octets, refusal::Refusal};
use crate::{
    Site,
    access::Access,
    body::{Following, attach},
    plain::Raw,
};

/// The response begins at once, as in AGFS: its SDK hands it to a program that may be the writer, too.
pub(super) async fn answer(
    site: Arc<Site>,
    access: Access,
    path: StreamPath,
    until_caught_up: bool,
    only_head: bool,
) -> Result<Response, Refusal> {
    access.may_read(path.as_str())?;
    if let Place::Document(text) = site.daemon.namespace.place(&path)? {
        return Ok(octets(text));
    }
    if only_head {
        return Ok(octets(Body::empty()));
    }
    let until = if until_caught_up { Until::CaughtUp } else { Until::Closed };
    // What is to end where the head is now has nothing to wait for.
    let options = ReadOptions { until, wait: !until_caught_up, ..ReadOptions::default() };
    if until_caught_up || site.daemon.get(&path).is_some() {
        return Ok(octets(follow(&site, &access, &path, options).await?));
    }
    let body = async move { follow(&site, &access, &path, options).await.map(Body::into_data_stream) };
    let body = body.map_err(|failure| axum::Error::new(Broken(failure.message)));
    Ok(octets(Body::from_stream(body.try_flatten_stream())))
}

async fn follow(
    site: &Site,
    access: &Access,
    path: &StreamPath,
    options: ReadOptions,
) -> Result<Body, Failure> {
    let reader = attach(site, access, path, options).await?;
    Ok(Body::new(Following::new(site, access, path, reader, Raw::default())))
}
