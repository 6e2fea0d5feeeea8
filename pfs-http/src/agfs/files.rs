//! Files of AGFS: a stream is a file that is appended to and followed, the README a file that
//! is read.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use http_body::Body as _;
use pfs_host::{Caller, Failure};
use pfs_proto::{CreateOptions, StreamPath};
use serde_json::{Value, json};

use super::{
    follow,
    node::{Info, Node, is_directory, parse, stream_path},
    query::Query,
    refusal::Refusal,
};
use crate::{Site, limits, media_type::refuse_form, plain, presence::Presence, record::Outcome};

/// Maximum length of a body that is appended as one chunk, like every write in StreamFS. A longer
/// body, or a body of unknown length, is appended as it arrives.
const ONE_CHUNK: u64 = 64 * 1024;

type Done = Result<(StatusCode, Json<Value>), Refusal>;
type Wrote = Result<(StatusCode, Extension<Outcome>, Json<Value>), Refusal>;

fn done(status: StatusCode, message: impl Into<String>) -> Done {
    Ok((status, Json(json!({ "message": message.into() }))))
}

/// Adds the stream to the outcome of a request: the stream's name is in the query, which is
/// not logged.
fn wrote(stream: StreamPath, created: bool, (status, answer): (StatusCode, Json<Value>)) -> Wrote {
    Ok((status, Extension(Outcome { stream: Some(stream), created, closed: false }), answer))
}

/// GET: reads a document or a part of it, or follows a stream.
pub(super) async fn read(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = Query::from_uri(&uri)?;
    if query.stream() {
        let path = stream_path(&site, query.path()?)?;
        let until_caught_up = query.until_caught_up()?;
        return follow::answer(site, caller, path, until_caught_up, &method, &headers).await;
    }
    let (offset, size) = (query.offset()?, query.size()?);
    match Node::at(&site, &caller, query.path()?).await? {
        Node::Document(_, text) => Ok(octets(part(text.as_bytes(), offset, size).to_vec())),
        Node::Stream(path, _) => Err(Refusal::bad(format!(
            "{path} is a stream: use stream mode for reading it (stream=true)"
        ))),
        Node::Directory(prefix) => Err(is_directory(&prefix)),
    }
}

/// Part of a document. Like in AGFS, a range beyond the document is cut off, and a negative size
/// means the whole rest.
fn part(text: &[u8], offset: i64, size: i64) -> &[u8] {
    let rest = text.get(usize::try_from(offset.max(0)).unwrap_or(usize::MAX)..).unwrap_or_default();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    rest.get(..size).unwrap_or(rest)
}

pub(super) fn octets(body: impl Into<Body>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body.into()).into_response()
}

/// PUT: appends to a stream. AGFS would truncate a file; a stream continues.
pub(super) async fn write(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Extension(presence): Extension<Presence>,
    request: Request,
) -> Wrote {
    let query = Query::from_uri(request.uri())?;
    let path = stream_path(&site, query.path()?)?;
    let place = site.daemon.writable(&caller, &path)?.in_request();
    refuse_form(request.headers())?;
    let (stream, created) = place.open_or_create_with(CreateOptions::default()).await?;
    let length = request.body().size_hint().exact();
    let body = match length.filter(|length| *length <= ONE_CHUNK.min(stream.max_chunk())) {
        Some(length) => {
            let most = usize::try_from(length).unwrap_or(usize::MAX);
            limits::whole(&site, request.into_body(), most).await?.into()
        }
        None => request.into_body(),
    };
    let written = plain::append(&place, &stream, body, &presence, plain::Close::No).await?;
    wrote(path, created, done(StatusCode::OK, format!("Written {} bytes", written.bytes))?)
}

/// POST: creates a stream.
pub(super) async fn create(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Wrote {
    let query = Query::from_uri(&uri)?;
    let path = stream_path(&site, query.path()?)?;
    site.daemon.writable(&caller, &path)?.in_request().create(CreateOptions::default()).await?;
    wrote(path, true, done(StatusCode::CREATED, "file created")?)
}

/// DELETE: removes a stream, or with `recursive=true` all streams below a directory.
pub(super) async fn remove(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Done {
    let query = Query::from_uri(&uri)?;
    let prefix = parse(query.path()?)?;
    if query.recursive() {
        let is_directory =
            matches!(Node::at(&site, &caller, prefix.as_str()).await, Ok(Node::Directory(_)));
        if site.daemon.remove_below(&caller, &prefix).await? > 0 || is_directory {
            return done(StatusCode::OK, "deleted");
        }
    }
    // Find out the reason: the path is a directory or a document, is outside the mounts, or does
    // not exist.
    let path = stream_path(&site, prefix.as_str())?;
    let place = site.daemon.writable(&caller, &path)?;
    if let Some(stream) = place.find().await? {
        place.remove(&stream).await?;
        return done(StatusCode::OK, "deleted");
    }
    if site.daemon.list(&caller, prefix.as_str()).await.is_ok() {
        return Err(Refusal::bad(format!(
            "{prefix} is a directory; use recursive=true to remove the streams in it"
        )));
    }
    Err(Failure::no_such_stream(path.as_str()).into())
}

/// GET: describes a file or directory.
pub(super) async fn stat(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Info>, Refusal> {
    let query = Query::from_uri(&uri)?;
    Ok(Json(Node::at(&site, &caller, query.path()?).await?.info(&site, &caller).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_document_is_cut_off_at_the_document_s_bounds() {
        let text = b"0123456789";
        for (offset, size, expected) in [
            (0, -1, &text[..]),
            (-5, 3, b"012"),
            (8, 5, b"89"),
            (10, 1, b""),
            (i64::MAX, i64::MAX, b""),
            (2, 0, b""),
            (3, 4, b"3456"),
        ] {
            assert_eq!(part(text, offset, size), expected, "{offset} {size}");
        }
    }
}
