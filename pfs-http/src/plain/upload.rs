//! PUT and POST: append the request body as it arrives. They can also create the stream, and close
//! it, normally or as failed.

use std::{pin::pin, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body::Body as _;
use http_body_util::BodyExt;
use pfs_host::{Append, Failure, Writable, wide};
use pfs_proto::{CreateOptions, ErrorCode, IfExists, StreamPath};
use pfs_stream::Stream;
use serde_json::json;
use tokio::time::sleep;

use super::{
    conditions, pass_on,
    query::{Query, bad},
    stat_headers,
};
use crate::{media_type::refuse_form, presence::Presence, problem::Problem, record::Outcome};

const KEYS: &[&str] =
    &["close", "create", "replace", "ring-buffer-size", "channel-buffer-size", "ttl", "reserve"];

/// Request header: whether the body begins at a sync point.
const SYNC: HeaderName = HeaderName::from_static("pfs-sync");

/// Media type that curl sends if it is not given one. It says nothing about the stream, and
/// is ignored.
const FORM: &str = "application/x-www-form-urlencoded";

/// Time after which a body gets log lines of its own.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// State of the stream after the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The stream stays open.
    No,
    /// The stream is closed.
    Yes,
    /// The stream is closed as failed, and the body counts as that of a writer that died.
    Failed,
}

impl Close {
    fn from_query(query: &Query) -> Result<Self, Problem> {
        let close = query.parsed("close", "true, false or failed", |value| match value {
            "" | "true" => Some(Self::Yes),
            "false" => Some(Self::No),
            "failed" => Some(Self::Failed),
            _ => None,
        })?;
        Ok(close.unwrap_or(Self::No))
    }
}

/// Answers PUT and POST.
pub(crate) async fn answer(
    place: &Writable<'_>,
    presence: &Presence,
    request: Request,
) -> Result<Response, Problem> {
    refuse_form(request.headers())?;
    let query = Query::from_uri(request.uri(), KEYS)?;
    let close = Close::from_query(&query)?;
    let if_exists = match (query.flag("create")?, query.flag("replace")?) {
        (true, true) => return Err(bad("?create cannot be used with ?replace")),
        (true, false) => Some(IfExists::Fail),
        (false, true) => Some(IfExists::Replace),
        (false, false) => None,
    };
    let create = if_exists.is_some();
    let options = options(&query, if_exists, request.headers())?;
    let marks_sync = marks_sync(request.headers())?;
    let empty = request.body().is_end_stream();
    if place.is_elsewhere() {
        let created = pass_on::open(place, options, if_exists, request.headers()).await?;
        let written = if empty && (create || close != Close::No) {
            pass_on::close(place, close).await?;
            Written { bytes: 0, offset: 0 }
        } else {
            let input = Input { body: request.into_body(), marks_sync };
            pass_on::append(place, input, presence, close).await?
        };
        return Ok(told(place.path(), created, close, &written));
    }

    let (stream, created) = open(place, options, if_exists, request.headers()).await?;
    // An empty request that creates or closes attaches no writer: other clients would see a writer
    // come and go.
    let written = if empty && (create || close != Close::No) {
        match close {
            Close::No => {}
            Close::Yes => place.close(&stream).await?,
            Close::Failed => place.close_failed(&stream).await?,
        }
        Written { bytes: 0, offset: stream.summary().head }
    } else {
        let input = Input { body: request.into_body(), marks_sync };
        append(place, &stream, input, presence, close).await?
    };
    Ok(told(place.path(), created, close, &written))
}

/// The response to a body that was appended.
fn told(path: &StreamPath, created: bool, close: Close, written: &Written) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let Written { bytes, offset } = *written;
    let told = json!({
        "path": path.as_str(), "offset": offset, "bytes": bytes, "created": created,
        "closed": close != Close::No, "failed": close == Close::Failed,
    });
    let outcome = Outcome { stream: None, created, closed: close != Close::No };
    let mut response = (status, Extension(outcome), Json(told)).into_response();
    response.headers_mut().insert(stat_headers::OFFSET, offset.into());
    response
}

/// Whether the request says that its body begins at a sync point.
fn marks_sync(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut values = headers.get_all(SYNC).iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (None | Some(b"0"), None) => Ok(false),
        (Some(b"1"), None) => Ok(true),
        _ => Err(bad("the header pfs-sync must be 0 or 1")),
    }
}

/// Opens or creates the stream. Returns whether the stream was created.
async fn open(
    place: &Writable<'_>,
    options: CreateOptions,
    if_exists: Option<IfExists>,
    headers: &HeaderMap,
) -> Result<(Stream, bool), Problem> {
    if conditions::wants_match(headers) {
        // A client cannot know the identity of a new stream, so `If-Match` requires an
        // existing stream.
        let found = place.find().await?;
        conditions::if_match(headers, place.path(), found.as_ref().map(Stream::identity))?;
        match (found, if_exists) {
            (Some(stream), None) => {
                conditions::if_none_match(headers, place.path(), stream.identity())?;
                return Ok((stream, false));
            }
            (Some(_), Some(IfExists::Replace)) => {}
            _ => return Err(Failure::already_exists(place.path()).into()),
        }
    }
    if if_exists == Some(IfExists::Replace)
        && conditions::wants_none(headers)
        && let Some(stream) = place.find().await?
    {
        conditions::if_none_match(headers, place.path(), stream.identity())?;
    }
    if if_exists.is_some() || conditions::wants_none(headers) {
        return match place.create(options).await {
            Ok(stream) => Ok((stream, true)),
            Err(failure)
                if failure.code == ErrorCode::AlreadyExists && conditions::wants_none(headers) =>
            {
                let message = format!(
                    "If-None-Match requires no stream at {}, but there is a stream",
                    place.path()
                );
                Err(conditions::failed(message))
            }
            Err(failure) => Err(failure.into()),
        };
    }
    let (stream, created) = place.open_or_create_with(options).await?;
    conditions::if_none_match(headers, place.path(), stream.identity())?;
    Ok((stream, created))
}

fn options(
    query: &Query,
    if_exists: Option<IfExists>,
    headers: &HeaderMap,
) -> Result<CreateOptions, Problem> {
    let (ring_buffer_size, channel_buffer_size) =
        (query.size("ring-buffer-size")?, query.size("channel-buffer-size")?);
    let ttl = query.parsed("ttl", "a time such as 10s, 5m or 1h30m", |ttl| {
        pfs_proto::parse_duration(ttl).ok()
    })?;
    let reserve = query.flag("reserve")?;
    let sized = ring_buffer_size.is_some() || channel_buffer_size.is_some() || reserve;
    if if_exists.is_none() && (sized || ttl.is_some()) {
        return Err(bad(
            "sizes and a ttl are set only when a stream is created; add ?create or ?replace",
        ));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type
        .map(str::trim)
        .filter(|content_type| *content_type != FORM && !content_type.is_empty());
    Ok(CreateOptions {
        ring_buffer_size,
        channel_buffer_size,
        ttl,
        content_type: content_type.map(str::to_owned),
        if_exists: if_exists.unwrap_or_default(),
        reserve,
    })
}

/// Result of appending a body.
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Offset after the last byte of the body.
    pub(crate) offset: u64,
}

/// What to append.
pub(crate) struct Input {
    pub(crate) body: Body,
    /// Whether the first chunk of the body is a sync point.
    pub(crate) marks_sync: bool,
}

impl From<Body> for Input {
    fn from(body: Body) -> Self {
        Self { body, marks_sync: false }
    }
}

/// Appends a body to a stream, as a writer of its own.
pub(crate) async fn append(
    place: &Writable<'_>,
    stream: &Stream,
    input: impl Into<Input>,
    presence: &Presence,
    close: Close,
) -> Result<Written, Problem> {
    let mut append = place.append(stream).await?;
    let mut offset = stream.summary().head;
    let max_chunk = usize::try_from(stream.max_chunk()).unwrap_or(usize::MAX).max(1);
    match append_body(&mut append, place.path(), input.into(), presence, max_chunk, &mut offset)
        .await
    {
        Ok(()) => {
            let bytes = append.bytes();
            match close {
                Close::No => append.finish(false),
                Close::Yes => append.finish(true),
                Close::Failed => append.fail(true),
            }
            Ok(Written { bytes, offset })
        }
        Err(failure) => {
            append.abandon(&failure.message);
            Err(failure.into())
        }
    }
}

/// Appends a body as it arrives. While a `block` reader needs the room, the body is not read, so
/// the client waits too.
async fn append_body(
    append: &mut Append,
    path: &StreamPath,
    input: Input,
    presence: &Presence,
    max_chunk: usize,
    offset: &mut u64,
) -> Result<(), Failure> {
    let Input { mut body, mut marks_sync } = input;
    let cutoff = append.cutoff().clone();
    let (mut failure, mut cut_off) = (pin!(append.failure()), pin!(cutoff.reached()));
    let mut goes_on = pin!(sleep(ANNOUNCE_AFTER));
    loop {
        let frame = tokio::select! {
            biased;
            failure = &mut cut_off => return Err(failure),
            () = &mut goes_on, if !append.is_announced() => {
                append.announce();
                continue;
            }
            frame = body.frame() => frame,
            failure = &mut failure => return Err(failure),
        };
        let data = match frame {
            None => return Ok(()),
            Some(Err(error)) => {
                // If the writer was cut off after the check above, the cutoff is the reason why the
                // body broke off.
                if let Some(failure) = cutoff.reason() {
                    return Err(failure);
                }
                let bytes = append.bytes();
                let message =
                    format!("the body broke off after {bytes} bytes, which are in {path}: {error}");
                return Err(Failure::new(ErrorCode::Protocol, message));
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        for chunk in data.chunks(max_chunk) {
            let appended = presence.append(append.append(chunk)).await?;
            appended.map_err(|rejected| rejected.failure(path))?;
            if std::mem::take(&mut marks_sync) {
                append.mark_sync(wide(chunk.len()));
            }
            *offset = append.writer().offset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io, sync::Arc};

    use axum::body::Bytes;
    use futures_util::stream;
    use pfs_host::{Caller, Daemon, Owner, Permissions, Settings};
    use pfs_proto::Peer;

    use super::*;

    #[tokio::test]
    async fn a_body_that_breaks_off_during_a_shutdown_is_refused_because_of_the_shutdown() {
        let daemon = Daemon::new(&Settings::default());
        let (peer, owner, permissions) = (Peer::default(), Owner::Anonymous, Permissions::all());
        let caller = Caller { peer, remote: None, owner, permissions, transport: "http" };
        let path: StreamPath = "/streamfs/s".parse().unwrap();
        let place = daemon.writable(&caller, &path).unwrap();
        let (stream, _) = place.open_or_create_with(CreateOptions::default()).await.unwrap();
        let mut append = place.append(&stream).await.unwrap();
        let shutdown = daemon.shutdown().clone();
        // The daemon shuts down just after `append_body` has checked for a shutdown.
        let body = Body::from_stream(stream::once(async move {
            shutdown.cancel();
            Err::<Bytes, _>(io::Error::other("the daemon ends"))
        }));
        let (presence, _guard) = Presence::new(Arc::new(|| Box::pin(pending())));
        let appended =
            append_body(&mut append, &path, body.into(), &presence, 1024 * 1024, &mut 0).await;
        assert_eq!(appended, Err(Failure::shutting_down()));
    }
}
