//! GET with `Accept: text/event-stream`: follows a stream as events, and goes on for a client that
//! comes back.
//!
//! A `Last-Event-ID` names the stream that it is of. Where that stream is gone, or another one has
//! its path, the client is told so by an event `removed`, and then follows the new stream from its
//! start, as soon as there is one. An `EventSource` that gets any other status than 200 never comes
//! back, so the answer is 200.

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
            // An EventSource comes back after the end, too. Only another status than 200 keeps it
            // away.
            if seen.offset == held.head && held.closed {
                return Ok(if held.failed {
                    failed(place.path(), held)
                } else {
                    StatusCode::NO_CONTENT.into_response()
                });
            }
        }
        // Of another stream it has seen nothing: what the ring no longer holds of that one is a
        // gap.
        let start = Start::Offset(if is_same { seen.offset } else { 0 });
        // A stream that was removed since it was found is looked for again.
        if let Some(reader) = attach(place, &stream, ReadOptions { start, ..options })? {
            return Ok(follow(place, reader, (!is_same).then_some(seen.identity)));
        }
    }
}

/// The events of a stream, after the removal of the one that the client followed before.
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

/// The removal of a stream, and the events of the next one at its path, which does not exist yet.
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
    // Proxies that gather responses would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// A body that follows a stream once there is one, and shows until then that the connection lives.
struct Pending {
    /// What is sent before anything else.
    told: Vec<u8>,
    pings: Interval,
    state: State,
    sent: LastPiece,
}

enum State {
    Waiting(BoxFuture<'static, Result<Following<Events>, Failure>>),
    Following(Box<Following<Events>>),
    /// The error must not overtake the event before it, as in [`Following`].
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
        // Asked before anything is sent: from the first moment on, no stream is missed.
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
