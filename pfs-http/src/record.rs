//! The log line of a request, written when its answer has ended: whole, broken, or given up by the client.

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

use super::{
    activity::{Activity, KeptPiece},
    admission::RequestPlace,
    operations::{Protocol, Tally},
};

/// What operators filter by: `PFSD_LOG=info,requests=off`.
const TARGET: &str = "requests";

/// As much of a path as is logged.
const SHOWN: usize = 256;

/// A request that is being answered. The log line is written when this is dropped.
#[derive(Debug)]
pub(super) struct Record {
    activity: Arc<Activity>,
    remote: SocketAddr,
    method: Method,
    path: String,
    began: Instant,
    status: Option<StatusCode>,
    bytes: u64,
    end: End,
    protocol: Protocol,
    tally: Arc<Tally>,
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
    ) -> Self {
        activity.request_begins(request.version() == Version::HTTP_2);
        // Never what is behind the path: it is nobody's but the client's.
        let path: String = request.uri().path().chars().take(SHOWN).collect();
        // Clients need not encode characters beyond ASCII, and a terminal may obey some of them.
        let path = utf8_percent_encode(&path, CONTROLS).to_string();
        Self {
            activity,
            remote,
            method: request.method().clone(),
            path,
            began: Instant::now(),
            status: None,
            bytes: 0,
            end: End::GivenUp,
            protocol: Protocol::of(request.uri().path()),
            tally,
            place: None,
        }
    }

    /// Keeps the place of the request until the request ends.
    pub(super) fn occupies(&mut self, place: RequestPlace) {
        self.place = Some(place);
    }

    /// The answer, whose end is the request's.
    pub(super) fn answer(mut self, response: Response<Body>) -> Response<Recorded> {
        self.status = Some(response.status());
        self.tally.answered(self.protocol, &self.method, response.status());
        response.map(|body| Recorded { body, record: self })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self { activity, remote, method, path, bytes, end, status, .. } = self;
        activity.request_ends();
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
                    target: TARGET, %remote, %method, path, status, bytes, milliseconds, end, "request"
                )
            };
        }
        match status {
            500.. => line!(warn),
            // What is asked every few seconds.
            200..300 if matches!(path.as_str(), "/healthz" | "/metrics") => line!(debug),
            _ => line!(info),
        }
        if let End::Broken(reason) = &self.end {
            tracing::debug!(target: TARGET, %remote, path = self.path, "the body was broken off: {reason}");
        }
    }
}

/// A body that knows how it ended.
#[derive(Debug)]
pub(super) struct Recorded {
    body: Body,
    record: Record,
}

/// Bytes of an answer over HTTP/2.
struct Kept {
    bytes: Bytes,
    _piece: KeptPiece,
}

impl AsRef<[u8]> for Kept {
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
                    Some(kept) => Bytes::from_owner(Kept { bytes, _piece: kept }),
                    None => bytes,
                })
            })
        });
        match &frame {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Buf::remaining);
                let len = pfs_host::wide(len);
                self.record.bytes = self.record.bytes.saturating_add(len);
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
        // A body whose length is known is not asked whether there is more.
        if matches!(self.record.end, End::GivenUp) && self.body.is_end_stream() {
            self.record.end = End::Whole;
        }
    }
}
