//! JSON of `pfs ls` and `pfs stat`.

use std::{error::Error, future::poll_fn, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use pfs_host::{Listing, mount::Entry};
use pfs_proto::{
    StreamStat,
    json::{Stat, Summary},
};

use crate::{Site, body::LastPiece, limits, problem::Problem};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Responds with an array of streams, as `pfs ls --json` prints them. A long listing is generated
/// page by page, as the client reads it.
pub(crate) async fn answer(site: &Arc<Site>, mut listing: Listing) -> Result<Response, Problem> {
    let first = listing.next(&site.daemon).await?;
    if first.len() < Listing::PAGE {
        let listed: Vec<_> = first.iter().map(|entry| Summary::from(&entry.summary)).collect();
        return Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(listed)).into_response());
    }
    let pages = Pages {
        site: Arc::clone(site),
        listing,
        first: Some(first),
        separator: b'[',
        sent: LastPiece::default(),
    };
    let body =
        Body::from_stream(stream::try_unfold(Some(pages), |pages: Option<Pages>| async move {
            match pages {
                Some(pages) => pages.next().await.map(Some),
                None => Ok(None),
            }
        }));
    Ok(([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NO_STORE)], body).into_response())
}

/// Rest of a long listing.
struct Pages {
    site: Arc<Site>,
    listing: Listing,
    first: Option<Vec<Entry>>,
    /// Byte before the next stream: `[` before the first one, `,` before the others.
    separator: u8,
    /// Previous page. The next page is generated after the connection has written this one.
    sent: LastPiece,
}

impl Pages {
    /// Generates the JSON of the next page. Returns it with the rest of the listing.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), Box<dyn Error + Send + Sync>> {
        poll_fn(|cx| self.sent.poll_sent(cx)).await;
        let page = match self.first.take() {
            Some(first) => first,
            None => {
                self.listing.next(&self.site.daemon).await.map_err(|failure| failure.message)?
            }
        };
        let mut json = Vec::new();
        for entry in &page {
            json.push(self.separator);
            self.separator = b',';
            serde_json::to_writer(&mut json, &Summary::from(&entry.summary))?;
        }
        if page.is_empty() {
            json.push(b']');
            return Ok((json.into(), None));
        }
        let json = self.sent.watch(json.into());
        Ok((json, Some(self)))
    }
}

/// Responds with the output of `pfs stat --json`.
pub(crate) fn stat(site: &Site, stat: &StreamStat) -> Result<Response, Problem> {
    let body = limits::held(site, &Stat::from(stat))?;
    Ok(([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NO_STORE)], body).into_response())
}
