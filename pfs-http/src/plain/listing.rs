//! What `pfs ls` and `pfs stat` tell, as JSON.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use pfs_host::Failure;
use pfs_proto::json::{Stat, Summary};
use pfs_stream::Stream;

use crate::{Site, access::Access, problem::Problem};

/// The streams below a path that the client may read: an array of what `pfs ls --json` prints.
pub(crate) fn answer(site: &Site, access: &Access, path: &str) -> Result<Response, Problem> {
    let (prefix, may_be_empty) = site.daemon.namespace.directory(path)?;
    let summaries: Vec<_> = site
        .daemon
        .below(&prefix)
        .filter(|stream| access.may_read(stream.name()).is_ok())
        .map(|stream| stream.summary())
        .collect();
    if summaries.is_empty() && !may_be_empty {
        return Err(Failure::no_such_stream(prefix.as_str()).into());
    }
    let listed: Vec<_> = summaries.iter().map(Summary::from).collect();
    Ok(fresh(Json(listed)))
}

/// What `pfs stat --json` prints.
pub(crate) fn stat(stream: &Stream) -> Response {
    fresh(Json(Stat::from(&stream.stat())))
}

fn fresh(figures: impl IntoResponse) -> Response {
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([no_store], figures).into_response()
}
