//! Error responses, with the headers that the protocol requires.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::{Failure, refusals::Reason};
use pfs_proto::{ErrorCode, StreamPath};
use pfs_stream::Stream;

use super::{headers, offset::Token};
use crate::problem::Problem;

/// Error response of this protocol.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Problem::new(status, code, message).into()
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            .because(Reason::TooLarge)
            .into()
    }

    /// The memory budget for whole messages is used up.
    pub(super) fn no_memory(message: &str) -> Self {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "limit", message);
        Self::from(problem.because(Reason::MessageMemory)).with(header::RETRY_AFTER, 1.into())
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// Refusal of an append to a closed stream. `Stream-Closed` tells the client that this is
    /// the reason.
    pub(super) fn closed(path: &StreamPath, stream: &Stream) -> Self {
        let head = Token::new(stream, stream.extent().head);
        Self::conflict("closed", format!("cannot append to {path}: the stream is closed"))
            .with(headers::CLOSED, headers::TRUE)
            .with(headers::NEXT_OFFSET, headers::value(&head.to_string()))
    }

    /// Refusal of a read at the end of a stream that was closed as failed. The response never has
    /// `Stream-Closed`, so that a failure does not look like a proper end.
    pub(super) fn failed(path: &StreamPath, stream: &Stream) -> Self {
        let head = Token::new(stream, stream.extent().head);
        Self::from(Problem::failed(path))
            .with(headers::NEXT_OFFSET, headers::value(&head.to_string()))
            .with(header::CACHE_CONTROL, headers::NO_STORE)
    }

    /// Refusal of a read whose start is gone.
    pub(super) fn gone(path: &StreamPath, stream: &Stream, reason: &str) -> Self {
        let earliest = Token::new(stream, stream.extent().tail).to_string();
        let message = format!(
            "cannot read {path}: {reason}; the earliest offset that can be read is {earliest}"
        );
        Self::new(StatusCode::GONE, "gone", message)
            .with(headers::EARLIEST_OFFSET, headers::value(&earliest))
            .with(header::CACHE_CONTROL, headers::NO_STORE)
    }

    /// Like [`gone`](Self::gone), with the reason that the ring has moved past the offset.
    pub(super) fn dropped(path: &StreamPath, stream: &Stream) -> Self {
        Self::gone(path, stream, "the ring no longer holds this offset")
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Vec::new() }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let removed = failure.code == ErrorCode::Removed;
        let mut problem = Problem::from(failure);
        if removed {
            // In this protocol, 410 means that the ring no longer holds the offset.
            problem.status = StatusCode::NOT_FOUND;
        }
        problem.into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
