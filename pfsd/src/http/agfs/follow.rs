//! GET with `stream=true`: follows a stream, and waits for one that does not exist yet.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::Frame;
use pfs_proto::{ReadOptions, StreamPath, Until};

use super::{files::octets, refusal::Refusal};
use crate::{
    failure::Failure,
    http::{
        Site,
        access::Access,
        attach::attach,
        body::{Broken, Following},
        plain::Raw,
    },
    namespace::Place,
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
    if until_caught_up || site.daemon.registry.get(path.as_str()).is_some() {
        return Ok(octets(follow(&site, &access, &path, options).await?));
    }
    let body = async move { follow(&site, &access, &path, options).await };
    Ok(octets(Body::new(Later::Waiting(Box::pin(body)))))
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

/// A body that is not there yet.
enum Later {
    Waiting(Pin<Box<dyn Future<Output = Result<Body, Failure>> + Send>>),
    There(Body),
}

impl http_body::Body for Later {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Self::Waiting(body) = &mut *self {
            match ready!(body.as_mut().poll(cx)) {
                Ok(body) => *self = Self::There(body),
                Err(failure) => return Poll::Ready(Some(Err(axum::Error::new(Broken(failure.message))))),
            }
        }
        match &mut *self {
            Self::There(body) => Pin::new(body).poll_frame(cx),
            Self::Waiting(_) => Poll::Pending,
        }
    }
}
