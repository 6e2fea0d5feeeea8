//! GET: follows a stream, or gives what it holds.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use pfs_host::Readable;
use pfs_proto::{ReadOptions, SlowPolicy, Start, State, StreamPath, Until};
use pfs_stream::StreamSummary;

use super::{
    figures, listing,
    query::Query,
    range::{NotHeld, Range},
    raw::Raw,
    sse::{self, Events},
};
use crate::{body::Following, problem::Problem, sse::MEDIA_TYPE};

const KEYS: &[&str] = &["from", "tail", "since", "until", "slow", "wait", "stat"];

/// Answers GET.
pub(crate) async fn answer(place: &Readable<'_>, request: &Parts) -> Result<Response, Problem> {
    let query = Query::of(&request.uri, KEYS)?;
    if query.flag("stat")? {
        query.at_most_one(KEYS)?;
        let stream = place.existing().await?;
        return Ok(listing::stat(&place.stat(&stream).await?));
    }
    let options = options(&query)?;
    if sse::is_wanted(&request.headers) {
        return events(place, options, &request.headers).await;
    }
    match Range::of(&request.headers)? {
        Some(range) if !follows(place, range).await? => part(place, range, options.policy).await,
        _ => live(place, options).await,
    }
}

/// Whether a client that asks for this range is to follow the stream, as without one (RFC 9110, section 14.2, lets a server ignore a
/// Range). A part of a live stream would be taken for a file of that length, and its end for the end.
async fn follows(place: &Readable<'_>, range: Range) -> Result<bool, Problem> {
    Ok(range.is_everything()
        && place.find().await?.is_none_or(|stream| {
            let StreamSummary { state, tail, head, .. } = stream.summary();
            state == State::Open || tail > 0 || head == 0
        }))
}

fn options(query: &Query) -> Result<ReadOptions, Problem> {
    query.at_most_one(&["from", "tail", "since"])?;
    let from = query.parsed("from", "oldest, newest or an offset", |from| match from {
        "oldest" => Some(Start::Oldest),
        "newest" => Some(Start::New),
        offset => offset.parse().ok().map(Start::Offset),
    })?;
    let tail = query.size("tail")?;
    let since =
        query.parsed("since", "a time such as 10s or 5m", |time| humantime::parse_duration(time).ok())?;
    let until = query.parsed("until", "closed, caught-up or writers-gone", |until| match until {
        "closed" => Some(Until::Closed),
        "caught-up" => Some(Until::CaughtUp),
        "writers-gone" => Some(Until::WritersGone),
        _ => None,
    })?;
    let policy: Option<SlowPolicy> =
        query.parsed("slow", "drop, block or disconnect", |slow| slow.parse().ok())?;
    Ok(ReadOptions {
        start: from.or(tail.map(Start::Tail)).or(since.map(Start::Since)).unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        until: until.unwrap_or_default(),
        wait: query.flag("wait")?,
    })
}

/// Everything from the start on, as it comes.
async fn live(place: &Readable<'_>, options: ReadOptions) -> Result<Response, Problem> {
    // Looked at before: if it is closed already, its head is final.
    let before = place.find().await?.map(|stream| stream.summary());
    if let (Some(summary), Start::Offset(offset)) = (&before, options.start)
        && !(summary.tail..=summary.head).contains(&offset)
    {
        return Ok(not_there(place.path(), summary, &format!("offset {offset}")));
    }
    let reader = place.attach(options).await?;
    let (start, head) = (reader.start(), reader.head_at_attach());
    let closed = before.is_some_and(|summary| summary.state == State::Closed);
    let length = (closed || options.until == Until::CaughtUp).then(|| head.saturating_sub(start));
    let content_type = reader.content_type().map(str::to_owned);
    let mut body = Following::new(place.follow(reader, Raw::default()));
    if let Some(length) = length {
        body = body.with_length(length);
    }
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(figures::START, start.into());
    figures::contents(headers, content_type.as_deref());
    if !closed {
        // A player that is told it may seek does so at once, and gets a part of a stream that goes on.
        headers.remove(header::ACCEPT_RANGES);
    }
    if let Some(stream) = place.find().await? {
        figures::describe(headers, &stream.summary());
    }
    Ok(response)
}

/// A part of what the ring holds now.
async fn part(place: &Readable<'_>, range: Range, policy: SlowPolicy) -> Result<Response, Problem> {
    let summary = place.existing().await?.summary();
    let (from, to) = match range.within(summary.tail, summary.head) {
        Ok(part) => part,
        Err(NotHeld::AtHead) => return Ok(not_there(place.path(), &summary, "that range")),
        Err(NotHeld::Gone) => return Ok(gone(place.path(), &summary)),
    };
    let options = ReadOptions { start: Start::Offset(from), policy, until: Until::CaughtUp, wait: false };
    let reader = place.attach(options).await?;
    let content_type = reader.content_type().map(str::to_owned);
    let body = Following::new(place.follow(reader, Raw::up_to(to)));
    let body = body.with_length(to.saturating_sub(from));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    put(
        headers,
        header::CONTENT_RANGE,
        &format!("bytes {from}-{}/{}", to.saturating_sub(1), complete(&summary)),
    );
    headers.insert(figures::START, from.into());
    figures::contents(headers, content_type.as_deref());
    figures::describe(headers, &summary);
    Ok(response)
}

/// The length of all, which only a closed stream knows.
fn complete(summary: &StreamSummary) -> String {
    match summary.state {
        State::Closed => summary.head.to_string(),
        State::Open => "*".to_owned(),
    }
}

/// The ring does not hold what is asked for: tells what it holds.
fn not_there(path: &StreamPath, summary: &StreamSummary, what: &str) -> Response {
    let mut response = not_held(StatusCode::RANGE_NOT_SATISFIABLE, path, summary, what);
    // The number that stands there is the end of what can be asked for.
    put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", summary.head));
    response
}

/// A range begins where the ring holds nothing any more, or where nothing ever was.
fn gone(path: &StreamPath, summary: &StreamSummary) -> Response {
    not_held(StatusCode::GONE, path, summary, "the start of that range")
}

fn not_held(status: StatusCode, path: &StreamPath, summary: &StreamSummary, what: &str) -> Response {
    let StreamSummary { head, tail, .. } = summary;
    let message =
        format!("{path} does not hold {what}: what it holds begins at {tail} and ends before {head}");
    let mut response = Problem::new(status, "not_held", message).into_response();
    figures::describe(response.headers_mut(), summary);
    response
}

/// Server-sent events, beginning after the last one that the client has seen.
async fn events(
    place: &Readable<'_>,
    mut options: ReadOptions,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if let Some(last) = sse::last_seen(headers)? {
        options.start = Start::Offset(last);
        if let Some(summary) = place.find().await?.map(|stream| stream.summary()) {
            if last > summary.head {
                return Ok(not_there(place.path(), &summary, &format!("event {last}")));
            }
            // An EventSource comes back after the end, too. This alone keeps it away.
            if last == summary.head && summary.state == State::Closed {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        }
    }
    let reader = place.attach(options).await?;
    let (start, events) = (reader.start(), Events::of(reader.content_type()));
    let body = Following::new(place.follow(reader, events));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(figures::START, start.into());
    figures::contents(headers, Some(MEDIA_TYPE));
    headers.remove(header::ACCEPT_RANGES);
    // Proxies that gather responses would hold events back.
    put(headers, header::HeaderName::from_static("x-accel-buffering"), "no");
    if let Some(stream) = place.find().await? {
        figures::describe(headers, &stream.summary());
    }
    Ok(response)
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
