//! Server-sent events with resumption: GET with `Accept: text/event-stream`.
//!
//! A `Last-Event-ID` contains the identity of its stream. If that stream is gone, or another stream
//! has its path, the client gets a `removed` event. Then the client follows the new stream from its
//! start, as soon as the stream exists. The response has status 200 in each of these cases, because
//! an `EventSource` that gets another status never reconnects.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use http_body::Frame;
use pfs_host::{Broken, Caller, Failure, Readable};
use pfs_proto::{Identity, ReadOptions, Start, StreamPath};
use pfs_stream::Reader;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    conditions::if_match,
    follow::{attach, failed, not_there},
    sse::{self, Events},
    stat_headers,
};
use crate::{
    Site,
    body::{Following, LastPiece},
    problem::Problem,
    sse::{KEEP_ALIVE, MEDIA_TYPE, PING},
};

/// Answers GET of events.
pub(crate) async fn answer(
    site: &Arc<Site>,
    caller: &Caller,
    place: &Readable<'_>,
    options: ReadOptions,
    request: &Parts,
) -> Result<Response, Problem> {
    let headers = &request.headers;
    let Some(seen) = sse::last_seen(headers)? else {
        let reader = place.attach(options).await?;
        if_match(headers, place.path(), Some(reader.identity()))?;
        return Ok(follow(place, reader, None));
    };
    loop {
        let Some(stream) = place.find().await? else {
            if_match(headers, place.path(), None)?;
            return Ok(when_created(site, caller, place.path(), options, seen.identity));
        };
        if_match(headers, place.path(), Some(stream.identity()))?;
        let is_same = stream.identity() == seen.identity;
        if is_same {
            let held = stream.extent();
            if seen.offset > held.head {
                return Ok(not_there(place.path(), held, &format!("event {seen}")));
            }
            // An EventSource reconnects after the end, too. Only a status other than 200 stops it.
            if seen.offset == held.head && held.closed {
                return Ok(if held.failed {
                    failed(place.path(), held)
                } else {
                    StatusCode::NO_CONTENT.into_response()
                });
            }
        }
        // The client has seen nothing of a new stream, so it starts at offset 0: bytes that the
        // ring has already dropped are reported as a gap.
        let start = Start::Offset(if is_same { seen.offset } else { 0 });
        // Look again if the stream was removed since `find`.
        if let Some(reader) = attach(place, &stream, ReadOptions { start, ..options })? {
            return Ok(follow(place, reader, (!is_same).then_some(seen.identity)));
        }
    }
}

/// Responds with the events of a stream. If `removed` is given, an event about the removal of the
/// client's previous stream comes first.
fn follow(place: &Readable<'_>, reader: Reader, removed: Option<Identity>) -> Response {
    let (start, held) = (reader.start(), reader.extent_at_attach());
    let mut response = response(Body::new(following(place, reader, removed)));
    let headers = response.headers_mut();
    headers.insert(stat_headers::START, start.into());
    stat_headers::describe(headers, held);
    response
}

fn following(place: &Readable<'_>, reader: Reader, removed: Option<Identity>) -> Following<Events> {
    let mut events = Events::new(reader.identity(), reader.content_type());
    match removed {
        Some(removed) => events.put_removed(removed),
        None => events.put_start(reader.start()),
    }
    Following::new(place.follow(reader, events))
}

/// Responds with the removal of a stream, and then with the events of the next stream at its path,
/// once that stream exists.
fn when_created(
    site: &Arc<Site>,
    caller: &Caller,
    path: &StreamPath,
    options: ReadOptions,
    removed: Identity,
) -> Response {
    let (site, caller, path) = (Arc::clone(site), caller.clone(), path.clone());
    let options = ReadOptions { start: Start::Offset(0), wait: true, ..options };
    let created = async move {
        let place = site.daemon.readable(&caller, &path)?;
        let reader = place.attach(options).await?;
        Ok(following(&place, reader, None))
    };
    let mut told = Vec::new();
    sse::put_removed(&mut told, removed, None);
    response(Body::new(Pending::new(told, Box::pin(created))))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    stat_headers::contents(headers, Some(MEDIA_TYPE));
    headers.remove(header::ACCEPT_RANGES);
    // Proxies that buffer responses would delay events.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Body that follows a stream once the stream exists, and sends keep-alives until then.
struct Pending {
    /// Bytes that are sent first.
    told: Vec<u8>,
    pings: Interval,
    state: State,
    sent: LastPiece,
}

enum State {
    Waiting(BoxFuture<'static, Result<Following<Events>, Failure>>),
    Following(Box<Following<Events>>),
    /// Waits until the event before the error is written: the server drops unwritten bytes when a
    /// body fails.
    Breaking(Broken),
    Ended,
}

impl Pending {
    fn new(told: Vec<u8>, created: BoxFuture<'static, Result<Following<Events>, Failure>>) -> Self {
        let now = Instant::now();
        let mut pings = interval_at(now.checked_add(KEEP_ALIVE).unwrap_or(now), KEEP_ALIVE);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { told, pings, state: State::Waiting(created), sent: LastPiece::default() }
    }
}

impl http_body::Body for Pending {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        // Polled before anything is sent, so that no stream is missed.
        if let State::Waiting(created) = &mut this.state
            && let Poll::Ready(created) = created.as_mut().poll(cx)
        {
            this.state = match created {
                Ok(following) => State::Following(Box::new(following)),
                Err(failure) => {
                    sse::put_failure(&mut this.told, &failure);
                    State::Breaking(Broken(failure.message))
                }
            };
        }
        if !this.told.is_empty() {
            let told = this.sent.watch(mem::take(&mut this.told).into());
            return Poll::Ready(Some(Ok(Frame::data(told))));
        }
        match &mut this.state {
            State::Waiting(_) => {
                ready!(this.pings.poll_tick(cx));
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PING)))));
            }
            State::Following(following) => return Pin::new(&mut **following).poll_frame(cx),
            // An event about the failure was sent, so there is a last piece to wait for.
            State::Breaking(_) => ready!(this.sent.poll_sent(cx)),
            State::Ended => {}
        }
        match mem::replace(&mut this.state, State::Ended) {
            State::Breaking(broken) => Poll::Ready(Some(Err(broken))),
            _ => Poll::Ready(None),
        }
    }
}
