//! GET: follows a stream, or returns the bytes that it holds.
//!
//! All data in a response comes from the one stream to which its reader is attached. Another client
//! may remove the stream and create a new one of the same name at any moment, so the path is not
//! looked up a second time.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use pfs_host::{Caller, Failure, Joined, Readable};
use pfs_media::Joiner;
use pfs_proto::{ErrorCode, Join, ReadOptions, SlowPolicy, Start, StreamPath, Until};
use pfs_stream::{Extent, Reader, Stream};

use super::{
    conditions::{Strength, if_match, if_range, put_etag},
    events, listing,
    query::Query,
    range::{NotHeld, Range},
    raw::Raw,
    sse, stat_headers,
};
use crate::{Site, body::Following, problem::Problem, trailers};

const KEYS: &[&str] = &["from", "tail", "since", "until", "slow", "wait", "join", "stat"];

/// Answers GET.
pub(crate) async fn answer(
    site: &Arc<Site>,
    caller: &Caller,
    path: &StreamPath,
    request: &Parts,
) -> Result<Response, Problem> {
    let place = &site.daemon.readable(caller, path)?;
    let query = Query::from_uri(&request.uri, KEYS)?;
    if query.flag("stat")? {
        query.at_most_one(KEYS)?;
        if !request.headers.contains_key(header::IF_MATCH) {
            return listing::stat(site, &place.stat().await?);
        }
        let stream = place.existing().await?;
        if_match(&request.headers, place.path(), Some(stream.identity()))?;
        return listing::stat(site, &place.stat_of(&stream).await?);
    }
    let options = options(&query)?;
    if sse::is_wanted(&request.headers) {
        return events::answer(site, caller, place, options, request).await;
    }
    loop {
        let Some(stream) = place.find().await? else {
            return when_created(place, options, &request.headers).await;
        };
        // If the stream was removed since `find`, look again: there may be a new one.
        if let Some(response) = follow_stream(place, &stream, options, &request.headers).await? {
            return Ok(response);
        }
    }
}

fn options(query: &Query) -> Result<ReadOptions, Problem> {
    query.at_most_one(&["from", "tail", "since"])?;
    let from = query.parsed("from", "oldest, newest or an offset", |from| match from {
        "oldest" => Some(Start::Oldest),
        "newest" => Some(Start::New),
        offset => offset.parse().ok().map(Start::Offset),
    })?;
    let tail = query.size("tail")?;
    let since = query
        .parsed("since", "a time such as 10s or 5m", |time| pfs_proto::parse_duration(time).ok())?;
    let until =
        query.parsed("until", "closed, caught-up or writers-gone", |until| match until {
            "closed" => Some(Until::Closed),
            "caught-up" => Some(Until::CaughtUp),
            "writers-gone" => Some(Until::WritersGone),
            _ => None,
        })?;
    let policy: Option<SlowPolicy> =
        query.parsed("slow", "drop, block or disconnect", |slow| slow.parse().ok())?;
    let join: Option<Join> = query.parsed("join", "auto, sync or raw", |join| join.parse().ok())?;
    Ok(ReadOptions {
        start: from.or(tail.map(Start::Tail)).or(since.map(Start::Since)).unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        until: until.unwrap_or_default(),
        wait: query.flag("wait")?,
        join: join.unwrap_or(Join::Auto),
    })
}

/// Answers with the bytes of a stream: a part, or all bytes from the start on. Returns `None` if
/// the stream was removed since it was found.
async fn follow_stream(
    place: &Readable<'_>,
    stream: &Stream,
    options: ReadOptions,
    headers: &HeaderMap,
) -> Result<Option<Response>, Problem> {
    if_match(headers, place.path(), Some(stream.identity()))?;
    let held = stream.extent();
    let range =
        if if_range(headers, stream.identity()) { Range::from_headers(headers)? } else { None };
    match range {
        Some(range) if !follows(range, held) => part(place, stream, range, options.policy),
        _ => {
            // Refuse before a reader is attached, so that other clients never see the reader.
            if let Some(refused) = refused(place.path(), held, options.start) {
                return Ok(Some(refused));
            }
            let attached = join(place, stream, options).await?;
            Ok(attached.map(|(reader, joined)| live(place, reader, joined, options, headers)))
        }
    }
}

/// Answers for a path without a stream: with 404, or once a stream is created if the client waits
/// for the creation.
async fn when_created(
    place: &Readable<'_>,
    options: ReadOptions,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    // The stream that `If-Range` names does not exist, so the Range is ignored (RFC 9110,
    // section 13.1.5).
    let range =
        if headers.contains_key(header::IF_RANGE) { None } else { Range::from_headers(headers)? };
    if !options.wait || range.is_some_and(|range| !range.is_everything()) {
        return Err(Failure::no_such_stream(place.path().as_str()).into());
    }
    let reader = place.attach(options).await?;
    if_match(headers, place.path(), Some(reader.identity()))?;
    Ok(live(place, reader, None, options, headers))
}

/// Attaches a reader to this stream. Returns `None` if the stream was removed since it was found.
pub(crate) fn attach(
    place: &Readable<'_>,
    stream: &Stream,
    options: ReadOptions,
) -> Result<Option<Reader>, Problem> {
    match place.reader(stream, options) {
        Ok(reader) => Ok(Some(reader)),
        Err(failure) if failure.code == ErrorCode::Removed => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Attaches a reader that joins as `options.join` says. Returns `None` if the stream was removed
/// since it was found.
async fn join(
    place: &Readable<'_>,
    stream: &Stream,
    options: ReadOptions,
) -> Result<Option<(Reader, Option<Joined>)>, Problem> {
    match place.join_stream(stream, options).await {
        Ok(Some((reader, joined))) => Ok(Some((reader, Some(joined)))),
        Ok(None) => Ok(attach(place, stream, options)?.map(|reader| (reader, None))),
        Err(failure) if failure.code == ErrorCode::Removed => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Whether to ignore a Range and follow the stream (RFC 9110, section 14.2, allows to ignore a
/// Range). Otherwise, a client that asks for the range `0-` of a live stream would take the
/// response for a whole file.
fn follows(range: Range, held: Extent) -> bool {
    range.is_everything() && (!held.is_complete() || held.tail > 0 || held.head == 0)
}

/// Refuses a start that the ring does not hold, because a body cannot report missing bytes.
fn refused(path: &StreamPath, held: Extent, start: Start) -> Option<Response> {
    match start {
        Start::Offset(offset) if !(held.tail..=held.head).contains(&offset) => {
            Some(not_there(path, held, &format!("offset {offset}")))
        }
        _ => None,
    }
}

/// Follows the stream from its start on.
fn live(
    place: &Readable<'_>,
    reader: Reader,
    joined: Option<Joined>,
    options: ReadOptions,
    request: &HeaderMap,
) -> Response {
    let (start, held) = (reader.start(), reader.extent_at_attach());
    // The ring may have moved on since the first check.
    if let Some(refused) = refused(place.path(), held, options.start) {
        return refused;
    }
    // The head of a closed stream is final.
    let has_length = held.is_complete() || options.until == Until::CaughtUp;
    let is_searching = joined.as_ref().is_some_and(|joined| joined.start.is_none());
    let length = (has_length && !is_searching).then(|| held.head.saturating_sub(start));
    let (identity, content_type) = (reader.identity(), reader.content_type().map(str::to_owned));
    // With a known length, clients can distinguish an end from a break without trailers.
    let has_trailers = length.is_none() && trailers::are_accepted(request);
    let mut raw = Raw::default();
    let mut prefix = Bytes::new();
    let mut skipped = None;
    if let Some(Joined { format, header, place, start: found, .. }) = joined {
        skipped = (start > place).then_some((place, start));
        match format {
            Some(format) if found.is_none() => {
                raw = Raw::searching(Joiner::searching(format, header, start));
            }
            _ => prefix = header,
        }
    }
    let header_bytes = prefix.len();
    let body = Following::new(place.follow(reader, raw)).with_trailers(has_trailers);
    let mut body = body.with_prefix(prefix);
    if let Some(length) = length {
        body = body.with_length(length);
    }
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    if has_trailers {
        trailers::announce(headers);
    }
    headers.insert(stat_headers::START, start.into());
    if header_bytes > 0 {
        headers.insert(stat_headers::HEADER_BYTES, header_bytes.into());
    }
    if let Some((from, to)) = skipped {
        put(headers, stat_headers::SKIPPED, &format!("{from}..{to}"));
    }
    stat_headers::contents(headers, content_type.as_deref());
    if !held.is_complete() {
        // A player that may seek does so at once, and would get a part of a stream that goes on.
        headers.remove(header::ACCEPT_RANGES);
    }
    put_etag(headers, identity, if start == 0 { Strength::Strong } else { Strength::Weak });
    stat_headers::describe(headers, held);
    response
}

/// Answers with a part of the bytes that the ring holds now. Returns `None` if the stream was
/// removed since it was found.
fn part(
    place: &Readable<'_>,
    stream: &Stream,
    range: Range,
    policy: SlowPolicy,
) -> Result<Option<Response>, Problem> {
    let held = stream.extent();
    let (from, to) = match range.within(held.tail, held.head) {
        Ok(part) => part,
        Err(NotHeld::AtHead) if held.failed => return Ok(Some(failed(place.path(), held))),
        Err(NotHeld::AtHead) => return Ok(Some(not_there(place.path(), held, "the range"))),
        Err(NotHeld::Gone) => return Ok(Some(gone(place.path(), held))),
    };
    let options = ReadOptions::default().start(Start::Offset(from)).policy(policy);
    let options = options.until(Until::CaughtUp);
    let Some(reader) = attach(place, stream, options)? else { return Ok(None) };
    let held = reader.extent_at_attach();
    if from < held.tail {
        return Ok(Some(gone(place.path(), held)));
    }
    let (identity, content_type) = (reader.identity(), reader.content_type().map(str::to_owned));
    let body = Following::new(place.follow(reader, Raw::up_to(to)));
    let body = body.with_length(to.saturating_sub(from));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    put(
        headers,
        header::CONTENT_RANGE,
        &format!("bytes {from}-{}/{}", to.saturating_sub(1), complete(held)),
    );
    headers.insert(stat_headers::START, from.into());
    stat_headers::contents(headers, content_type.as_deref());
    put_etag(headers, identity, Strength::Strong);
    stat_headers::describe(headers, held);
    Ok(Some(response))
}

/// Complete length, which is known only for a closed stream. The length of a stream that was closed
/// as failed is unknown, because the stream should have been longer.
fn complete(held: Extent) -> String {
    if held.is_complete() { held.head.to_string() } else { "*".to_owned() }
}

/// Refuses a request for bytes that the ring does not hold, and says which bytes it holds.
pub(crate) fn not_there(path: &StreamPath, held: Extent, what: &str) -> Response {
    let mut response = not_held(StatusCode::RANGE_NOT_SATISFIABLE, path, held, what);
    // The number after the slash is the end of the bytes that can be asked for.
    put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", held.head));
    response
}

/// Refuses a range that begins before tail or beyond head.
fn gone(path: &StreamPath, held: Extent) -> Response {
    not_held(StatusCode::GONE, path, held, "the start of the range")
}

fn not_held(status: StatusCode, path: &StreamPath, held: Extent, what: &str) -> Response {
    let Extent { head, tail, .. } = held;
    let message =
        format!("{path} does not hold {what}: its ring begins at {tail} and ends before {head}");
    let mut response = Problem::new(status, "not_held", message).into_response();
    stat_headers::describe(response.headers_mut(), held);
    response
}

/// Refuses a read at the end of a stream that was closed as failed.
pub(super) fn failed(path: &StreamPath, held: Extent) -> Response {
    let mut response = Problem::failed(path).into_response();
    stat_headers::describe(response.headers_mut(), held);
    response
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
