//! Request limits: the size of the headers, and the time that a body takes.
//!
//! A body without a length is a live body, such as that of `cmd | curl -T - URL`. Its writer may be
//! silent for hours, so only the connection limits apply. A body of known length has no reason to
//! pause. A body that is gathered before it is used occupies memory while it arrives, so it has to
//! arrive at a minimum rate.
//!
//! `RequestBodyTimeoutLayer` of `tower-http` does not notice the shutdown of the daemon, and cannot
//! answer 408 regardless of how the handler reports the error.

use std::{
    error::Error,
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pfs_host::{Failure, refusals::Reason, wide};
use pfs_stream::Reservation;
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Site, problem::Problem};

/// Minimum average rate of a body that is gathered, in bytes per second.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// Middleware that refuses headers that are too large and ends bodies that stall.
pub(super) async fn check(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let (max_header_size, body_stall_time) = {
        let limits = &site.current().limits;
        (limits.max_header_size, limits.body_stall_time)
    };
    if let Err(problem) = headers_fit(&request, max_header_size) {
        return problem.into_response();
    }
    if request.body().size_hint().exact().is_none_or(|length| length == 0) {
        return next.run(request).await;
    }
    let stalled = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&stalled);
    let request = request.map(|body| Body::new(Watched::new(&site, body, None, watched)));
    let response = next.run(request).await;
    // A stalled body is answered with 408, however the handler reported the error.
    if stalled.load(Ordering::Relaxed) && !response.status().is_success() {
        return TooSlow::Stalled(body_stall_time).into_problem().into_response();
    }
    response
}

/// Wraps a body that is gathered: it has to arrive at [`MIN_BYTES_PER_SECOND`], and must not stall
/// even if its length is unknown.
pub(crate) fn gathered(site: &Site, body: Body) -> Body {
    Body::new(Watched::new(site, body, Some(Rate::begin()), Arc::default()))
}

/// Response body that is held in memory until the client has taken it, with its memory reservation.
struct Held {
    bytes: Vec<u8>,
    _memory: Option<Reservation>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Creates a response body that is held in memory until the client has taken it. The memory of a
/// large body is charged.
pub(crate) fn held_bytes(site: &Site, mut bytes: Vec<u8>) -> Result<Body, Problem> {
    bytes.shrink_to_fit();
    let memory = site.daemon.hold_answer(bytes.capacity()).map_err(|failure| Problem {
        status: StatusCode::SERVICE_UNAVAILABLE,
        ..Problem::from(failure)
    })?;
    Ok(Bytes::from_owner(Held { bytes, _memory: memory }).into())
}

/// Like [`held_bytes`], for a value that is written as JSON.
pub(crate) fn held(site: &Site, json: &impl Serialize) -> Result<Body, Problem> {
    let bytes = serde_json::to_vec(json).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("cannot write the answer: {error}"),
        )
    })?;
    held_bytes(site, bytes)
}

/// Problem for a request body that ended with `error`.
pub(crate) fn broken_off(error: &(dyn Error + 'static)) -> Problem {
    broken(error, 0)
}

/// Reads a request body of at most `max` bytes as a whole, at the minimum rate of [`gathered`].
pub(crate) async fn whole(site: &Site, body: Body, max: usize) -> Result<Bytes, Problem> {
    let collected = Limited::new(gathered(site, body), max).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| broken(&*error, max))
}

fn broken(error: &(dyn Error + 'static), max: usize) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(too_slow) = error.downcast_ref::<TooSlow>() {
            return too_slow.into_problem();
        }
        if error.is::<Ending>() {
            return Failure::shutting_down().into();
        }
        if error.is::<LengthLimitError>() {
            let message = format!("the body is larger than {max} bytes, the limit of this request");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
                .because(Reason::TooLarge);
        }
        cause = error.source();
    }
    Problem::new(StatusCode::BAD_REQUEST, "broken_body", format!("the body broke off: {error}"))
}

fn headers_fit(request: &Request, max: usize) -> Result<(), Problem> {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len().saturating_add(value.len()));
    let size = headers.fold(0, usize::saturating_add);
    if size <= max {
        return Ok(());
    }
    let message = format!("the headers have {size} bytes; limits.max_header_size is {max}");
    let problem =
        Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", message);
    Err(problem.because(Reason::TooLarge))
}

/// Reason for not waiting any longer for a body.
#[derive(Clone, Copy, Debug, Error)]
enum TooSlow {
    /// The body brought no bytes for this time.
    #[error("no part of the body arrived for {} seconds", .0.as_secs_f64())]
    Stalled(Duration),
    /// The body arrives more slowly than [`MIN_BYTES_PER_SECOND`].
    #[error("the body arrives at less than {MIN_BYTES_PER_SECOND} bytes a second")]
    Trickles,
}

impl TooSlow {
    fn into_problem(self) -> Problem {
        let (code, remedy) = match self {
            Self::Stalled(_) => {
                ("body_stalled", "limits.body_stall_time is the limit for a body of known length")
            }
            Self::Trickles => {
                ("body_too_slow", "PUT a live body to the path of the stream, where it may pause")
            }
        };
        Problem::new(StatusCode::REQUEST_TIMEOUT, code, format!("{self}; {remedy}"))
            .because(Reason::TooSlow)
    }
}

/// Rate at which a gathered body arrives.
struct Rate {
    began: Instant,
    received: u64,
}

impl Rate {
    fn begin() -> Self {
        Self { began: Instant::now(), received: 0 }
    }

    /// Deadline of the next byte: a body has `grace`, plus one second for each
    /// [`MIN_BYTES_PER_SECOND`] bytes.
    fn due(&self, grace: Duration) -> Option<Instant> {
        self.began
            .checked_add(grace)?
            .checked_add(Duration::from_secs(self.received / MIN_BYTES_PER_SECOND))
    }
}

/// The daemon is shutting down, and does not wait for the rest of a body.
#[derive(Clone, Copy, Debug, Error)]
#[error("the daemon is shutting down")]
struct Ending;

/// Request body that ends with an error if it brings no bytes for too long while it is read, or
/// when the daemon shuts down.
struct Watched {
    body: Body,
    limit: Duration,
    rate: Option<Rate>,
    shutdown: CancellationToken,
    waiting: Option<BoxFuture<'static, Box<dyn Error + Send + Sync>>>,
    stalled: Arc<AtomicBool>,
}

impl Watched {
    fn new(site: &Site, body: Body, rate: Option<Rate>, stalled: Arc<AtomicBool>) -> Self {
        Self {
            body,
            limit: site.current().limits.body_stall_time,
            rate,
            shutdown: site.daemon.shutdown().clone(),
            waiting: None,
            stalled,
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            if let (Some(rate), Some(Ok(frame))) = (&mut self.rate, &frame) {
                let len = frame.data_ref().map_or(0, Bytes::len);
                rate.received = rate.received.saturating_add(wide(len));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Self { limit, rate, shutdown, waiting, stalled, .. } = &mut *self;
        let waiting = waiting.get_or_insert_with(|| {
            let (limit, shutdown, stalled) = (*limit, shutdown.clone(), Arc::clone(stalled));
            let due = rate.as_ref().and_then(|rate| rate.due(limit));
            Box::pin(async move {
                let trickles = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = sleep(limit) => {
                        stalled.store(true, Ordering::Relaxed);
                        TooSlow::Stalled(limit).into()
                    }
                    () = trickles => TooSlow::Trickles.into(),
                    () = shutdown.cancelled() => Ending.into(),
                }
            })
        });
        waiting.as_mut().poll(cx).map(|error| Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
