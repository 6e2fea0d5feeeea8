//! GET: where a read begins, and which of the three kinds it is.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use pfs_host::Failure;
use pfs_proto::{ReadOptions, Start, StreamPath};
use pfs_stream::{AttachError, Reader, Stream};

use super::{
    catch_up, long_poll, offset,
    query::{From, Live, Query},
    refusal::Refusal,
    sse, target,
};
use crate::{Site, access::Access};

/// A read of a stream.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) path: StreamPath,
    pub(super) stream: Stream,
    pub(super) query: Query,
    pub(super) access: Access,
}

/// Answers GET.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, Refusal> {
    // The body, which GET has no use for, could not be kept while this waits.
    let (head, _) = request.into_parts();
    let path = target::path(&site, &head.uri)?;
    access.may_read(path.as_str())?;
    let query = Query::of(&head.uri)?;
    let stream = site.daemon.existing(&path)?;
    stream.renew();
    let live = query.live;
    let reading = Reading { path, stream, query, access };
    match live {
        None => catch_up::answer(&reading, &head.headers),
        Some(Live::LongPoll) => long_poll::answer(&site, &reading, &head.headers).await,
        Some(Live::Sse) => sse::answer(&site, reading),
    }
}

impl Reading {
    /// Attaches a reader, if what it is to begin with is still there.
    pub(super) fn attach(&self) -> Result<Reader, Refusal> {
        let Self { path, stream, query, access } = self;
        let start = match query.from {
            From::Beginning => Start::Oldest,
            From::Now => Start::New,
            From::At(token) if token.birth != offset::birth(stream) => {
                let reason = "the offset belongs to an earlier stream of this name";
                return Err(Refusal::gone(path, stream, reason));
            }
            From::At(token) if token.offset < stream.extent().tail => {
                return Err(Refusal::dropped(path, stream));
            }
            From::At(token) => Start::Offset(token.offset),
        };
        let options = ReadOptions { start, ..ReadOptions::default() };
        stream.reader(options, access.client().peer).map_err(|error| match error {
            AttachError::PastHead { .. } => Refusal::bad_request(format!("cannot read {path}: {error}")),
            error => Failure::attaching("cannot read", path, error).into(),
        })
    }

    /// Whether the client must get what follows where it begins, or be told that it does not.
    pub(super) fn is_exact(&self) -> bool {
        self.query.from != From::Beginning
    }

    /// Whether the same request would begin at the same place at any time.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.query.from, From::At(_))
    }
}
