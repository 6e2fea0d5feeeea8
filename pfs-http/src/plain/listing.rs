//! What `pfs ls` and `pfs stat` tell, as JSON.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use pfs_host::mount::Entry;
use pfs_proto::{
    StreamStat,
    json::{Stat, Summary},
};

/// Streams as `pfs ls --json` prints them, in an array.
pub(crate) fn answer(entries: &[Entry]) -> Response {
    let listed: Vec<_> = entries.iter().map(|entry| Summary::from(&entry.summary)).collect();
    fresh(Json(listed))
}

/// What `pfs stat --json` prints.
pub(crate) fn stat(stat: &StreamStat) -> Response {
    fresh(Json(Stat::from(stat)))
}

fn fresh(figures: impl IntoResponse) -> Response {
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([no_store], figures).into_response()
}
