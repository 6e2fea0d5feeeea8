//! Access log: one line for each request, written when its response has ended whole, was broken
//! off, or was given up by the client. A request that appends has no other line, unless it fails or
//! takes long.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::Body,
    http::{Method, Request, Response, StatusCode, Version},
};
use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use pfs_host::refusals::{Asked, Refusals};
use pfs_proto::StreamPath;

use super::{
    activity::{Activity, KeptPiece},
    admission::RequestPlace,
    operations::{More, Protocol, Tally},
    problem::Refused,
};

/// Log target by which operators filter: `PFSD_LOG=info,requests=off`.
const TARGET: &str = "requests";

/// Maximum number of characters of a path that are logged.
const SHOWN: usize = 256;

/// Effect of a request on a stream; an extension of its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The stream, if the path of the request does not name it.
    pub(crate) stream: Option<StreamPath>,
    /// The stream was created.
    pub(crate) created: bool,
    /// The stream was closed, normally or as failed.
    pub(crate) closed: bool,
}

/// Log record of a request that is being answered. The line is written on drop.
#[derive(Debug)]
pub(super) struct Record {
    activity: Arc<Activity>,
    remote: SocketAddr,
    method: Method,
    path: String,
    began: Instant,
    status: Option<StatusCode>,
    received: Option<More>,
    sent: u64,
    outcome: Outcome,
    end: End,
    protocol: Protocol,
    tally: Arc<Tally>,
    refusals: Arc<Refusals>,
    /// The refusal has its own, rate-limited line.
    refused: bool,
    place: Option<RequestPlace>,
}

#[derive(Debug)]
enum End {
    Whole,
    Broken(String),
    GivenUp,
}

impl Record {
    pub(super) fn begin<B>(
        request: &Request<B>,
        remote: SocketAddr,
        activity: Arc<Activity>,
        tally: Arc<Tally>,
        refusals: Arc<Refusals>,
    ) -> Self {
        activity.request_begins(request.version() == Version::HTTP_2);
        // The query is never logged: it is private to the client.
        let path: String = request.uri().path().chars().take(SHOWN).collect();
        // Clients need not percent-encode characters beyond ASCII, and some of them control
        // a terminal.
        let path = utf8_percent_encode(&path, CONTROLS).to_string();
        Self {
            activity,
            remote,
            method: request.method().clone(),
            path,
            began: Instant::now(),
            status: None,
            received: None,
            sent: 0,
            outcome: Outcome::default(),
            end: End::GivenUp,
            protocol: Protocol::from_path(request.uri().path()),
            tally,
            refusals,
            refused: false,
            place: None,
        }
    }

    /// Keeps the place of the request until the request ends.
    pub(super) fn occupies(&mut self, place: RequestPlace) {
        self.place = Some(place);
    }

    /// Marks the request as refused: the refusal has already been counted and logged.
    pub(super) fn is_refused(&mut self) {
        self.refused = true;
    }

    /// Attaches the counter of the request body.
    pub(super) fn receives(&mut self, body: More) {
        self.received = Some(body);
    }

    /// Wraps the response. The request ends when the response ends.
    pub(super) fn answer(mut self, mut response: Response<Body>) -> Response<Recorded> {
        self.status = Some(response.status());
        self.outcome = response.extensions_mut().remove().unwrap_or_default();
        self.tally.answered(self.protocol, &self.method, response.status());
        if let Some(Refused { reason, message }) = response.extensions().get() {
            let asked = Asked {
                remote: Some(self.remote),
                method: Some(self.method.as_str()),
                path: Some(&self.path),
                ..Asked::default()
            };
            self.refusals.refuse(*reason, &asked, message);
            self.refused = true;
        }
        response.map(|body| Recorded { body, record: self })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self { activity, remote, method, path, received, sent, outcome, end, status, .. } =
            self;
        activity.request_ends();
        let received = received.as_ref().map_or(0, More::received);
        let stream = outcome.stream.as_ref().map(StreamPath::as_str);
        let (created, closed) = (outcome.created.then_some(true), outcome.closed.then_some(true));
        let status = status.map_or(0, |status| status.as_u16());
        let milliseconds = self.began.elapsed().as_secs_f64() * 1000.0;
        let milliseconds = (milliseconds * 1000.0).round() / 1000.0;
        let end = match end {
            End::Whole => "whole",
            End::Broken(_) => "broken",
            End::GivenUp => "given up",
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: TARGET, %remote, %method, path, stream, status, created, closed, received, sent, milliseconds,
                    end, "request"
                )
            };
        }
        match status {
            // A client that is refused must not fill the log.
            _ if self.refused => line!(debug),
            500.. => line!(warn),
            // Health checks and scrapes, repeated every few seconds.
            200..300 if matches!(path.as_str(), "/healthz" | "/metrics") => line!(debug),
            _ => line!(info),
        }
        if let End::Broken(reason) = &self.end {
            tracing::debug!(target: TARGET, %remote, path = self.path, "the body was broken off: {reason}");
        }
    }
}

/// Response body that records how it ended.
#[derive(Debug)]
pub(super) struct Recorded {
    body: Body,
    record: Record,
}

/// Bytes of an HTTP/2 response, which keep their connection busy.
struct ChargedBytes {
    bytes: Bytes,
    _piece: KeptPiece,
}

impl AsRef<[u8]> for ChargedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| match self.record.activity.keeps_piece() {
                    Some(kept) => Bytes::from_owner(ChargedBytes { bytes, _piece: kept }),
                    None => bytes,
                })
            })
        });
        match &frame {
            // Trailers are the last frame: the server polls no further.
            Some(Ok(frame)) if frame.is_trailers() => self.record.end = End::Whole,
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Buf::remaining);
                let len = pfs_host::wide(len);
                self.record.sent = self.record.sent.saturating_add(len);
                self.record.tally.sent(self.record.protocol, len);
            }
            Some(Err(error)) => self.record.end = End::Broken(error.to_string()),
            None => self.record.end = End::Whole,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // The server does not poll a body of known length for its end.
        if matches!(self.record.end, End::GivenUp) && self.body.is_end_stream() {
            self.record.end = End::Whole;
        }
    }
}
