//! GET: the start of a read, and its mode: catch-up, long-poll or server-sent events.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use pfs_host::{Caller, Failure, Page, PageError, Readable};
use pfs_proto::{ErrorCode, ReadOptions, Start};
use pfs_stream::{Reader, Stream};

use super::{
    catch_up, long_poll,
    media_type::{self, Kind},
    page::{Chunks, PAGE},
    query::{From, Live, Query},
    refusal::Refusal,
    sse, target,
};
use crate::Site;

/// Read request of a stream.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) place: Readable<'a>,
    pub(super) stream: Stream,
    pub(super) query: Query,
}

/// Answers GET.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    // Drop the unused body of the GET, which would otherwise be kept while the read waits.
    let (head, _) = request.into_parts();
    let path = target::path(&site, &head.uri)?;
    let place = site.daemon.readable(&caller, &path)?;
    let query = Query::from_uri(&head.uri)?;
    let stream = place.existing().await?;
    stream.renew();
    let live = query.live;
    let reading = Reading { place, stream, query };
    reading.refuse_failed()?;
    match live {
        None => catch_up::answer(&site, &reading, &head.headers),
        Some(Live::LongPoll) => long_poll::answer(&site, &reading, &head.headers).await,
        Some(Live::Sse) => sse::answer(&site, &reading),
    }
}

impl Reading<'_> {
    /// Attaches a reader. Refuses a start that the ring no longer holds.
    pub(super) fn attach(&self) -> Result<Reader, Refusal> {
        let attached = self.place.reader(&self.stream, self.options()?);
        attached.map_err(not_attached)
    }

    /// Begins a page. Refuses a start that the ring no longer holds.
    pub(super) fn page(&self) -> Result<Page<Chunks>, Refusal> {
        let chunks = Chunks::new(self.kind());
        let page = self.place.page(&self.stream, self.options()?, chunks, PAGE);
        let page = page.map_err(not_attached)?;
        Ok(if self.is_exact() { page } else { page.or_later() })
    }

    /// Refuses a read that begins at the end of a stream that was closed as failed.
    fn refuse_failed(&self) -> Result<(), Refusal> {
        let extent = self.stream.extent();
        let at_head = match self.query.from {
            From::Beginning => extent.tail == extent.head,
            From::Now => true,
            From::At(token) => {
                token.identity == self.stream.identity() && token.offset == extent.head
            }
        };
        if extent.failed && at_head { Err(self.failed()) } else { Ok(()) }
    }

    /// Refusal at the end of a stream that was closed as failed.
    pub(super) fn failed(&self) -> Refusal {
        Refusal::failed(self.place.path(), &self.stream)
    }

    /// Refusal of a page that failed.
    pub(super) fn refusal(&self, error: PageError) -> Refusal {
        match error {
            PageError::Failed(failure) => failure.into(),
            // The ring has moved past the start of the page.
            _ => Refusal::dropped(self.place.path(), &self.stream),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::from_media_type(media_type::content_type(&self.stream))
    }

    fn options(&self) -> Result<ReadOptions, Refusal> {
        let Self { place, stream, query } = self;
        let start = match query.from {
            From::Beginning => Start::Oldest,
            From::Now => Start::New,
            From::At(token) if token.identity != stream.identity() => {
                let reason = "the offset belongs to an earlier stream of this name";
                return Err(Refusal::gone(place.path(), stream, reason));
            }
            From::At(token) if token.offset < stream.extent().tail => {
                return Err(Refusal::dropped(place.path(), stream));
            }
            From::At(token) => Start::Offset(token.offset),
        };
        Ok(ReadOptions { start, ..ReadOptions::default() })
    }

    /// Whether the client gave a start: it must get the bytes from there, or an error if they
    /// are gone.
    fn is_exact(&self) -> bool {
        self.query.from != From::Beginning
    }

    /// Whether the same request always begins at the same offset.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.query.from, From::At(_))
    }
}

fn not_attached(failure: Failure) -> Refusal {
    match failure.code {
        ErrorCode::PastHead => Refusal::bad_request(failure.message),
        _ => failure.into(),
    }
}
