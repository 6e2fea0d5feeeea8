//! Error responses: a refusal as an HTTP status and a JSON body.

use axum::{
    Extension, Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pfs_host::{Failure, refusals::Reason};
use pfs_proto::{ErrorCode, StreamPath};

/// Error response: a status, and a JSON body with a stable code and a message for people.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Reason that is counted as a refusal; `None` for other errors.
    pub(crate) reason: Option<Reason>,
}

/// Extension of a response that refuses a request. [`Record`](super::record::Record) counts and
/// logs the refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), reason: None }
    }

    /// Counts the problem as a refusal for `reason`.
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Problem of a read at the end of a stream that was closed as failed: no more bytes come, and
    /// the end is not the intended one.
    pub(crate) fn failed(path: &StreamPath) -> Self {
        let message = format!("{path} has no more data: the stream was closed as failed");
        Self::new(StatusCode::CONFLICT, "failed", message)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (status, code) = match failure.code {
            ErrorCode::NoSuchStream => (StatusCode::NOT_FOUND, "no_such_stream"),
            ErrorCode::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
            ErrorCode::Closed => (StatusCode::CONFLICT, "closed"),
            ErrorCode::Removed => (StatusCode::GONE, "removed"),
            ErrorCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            // The client can remedy the limit, so this is not a failure of the daemon.
            ErrorCode::Limit => (StatusCode::TOO_MANY_REQUESTS, "limit"),
            ErrorCode::BadPath => (StatusCode::NOT_FOUND, "bad_path"),
            ErrorCode::BadOption => (StatusCode::BAD_REQUEST, "bad_option"),
            ErrorCode::IsStream => (StatusCode::CONFLICT, "is_stream"),
            ErrorCode::IsDocument => (StatusCode::CONFLICT, "is_document"),
            ErrorCode::PastHead => (StatusCode::RANGE_NOT_SATISFIABLE, "past_head"),
            ErrorCode::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            ErrorCode::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            ErrorCode::Unreachable => (StatusCode::BAD_GATEWAY, "unreachable"),
            ErrorCode::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            ErrorCode::Denied => (StatusCode::FORBIDDEN, "denied"),
            ErrorCode::Protocol | ErrorCode::Version => (StatusCode::BAD_REQUEST, "protocol"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self { reason: failure.reason, ..Self::new(status, code, failure.message) }
    }
}

impl Problem {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "code": self.code, "message": self.message } })
    }

    /// Builds the response with the error body of a protocol.
    pub(crate) fn respond(self, body: Json<serde_json::Value>) -> Response {
        let Self { status, message, reason, .. } = self;
        (status, reason.map(|reason| Extension(Refused { reason, message })), body).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(self.json());
        self.respond(body)
    }
}

/// Formats an HTTP/1.1 response that tells a client why its connection is not served, whatever
/// its request.
pub fn refusal(message: &str) -> String {
    let body = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message)
        .json()
        .to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
