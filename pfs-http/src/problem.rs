//! How a refusal looks over HTTP.

use axum::{
    Extension, Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pfs_host::{Failure, refusals::Reason};
use pfs_proto::{ErrorCode, StreamPath};

/// A refusal: a status, and a JSON body with a stable code and a message for people.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Why it is counted as a refusal; `None` for other errors.
    pub(crate) reason: Option<Reason>,
}

/// Extension of a response that refuses a request: [`Record`](super::record::Record) counts and
/// logs it.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), reason: None }
    }

    /// The same, counted as a refusal for this reason.
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// A read at the end of a stream that was closed as failed: nothing more comes, and it is not
    /// the end that there should be.
    pub(crate) fn failed(path: &StreamPath) -> Self {
        let message = format!("there is no more of {path}: the stream was closed as failed");
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
            // The client can do something about it: it is no failure of the daemon.
            ErrorCode::Limit => (StatusCode::TOO_MANY_REQUESTS, "limit"),
            ErrorCode::BadPath => (StatusCode::NOT_FOUND, "bad_path"),
            ErrorCode::BadOption => (StatusCode::BAD_REQUEST, "bad_option"),
            ErrorCode::IsStream => (StatusCode::CONFLICT, "is_stream"),
            ErrorCode::IsDocument => (StatusCode::CONFLICT, "is_document"),
            ErrorCode::PastHead => (StatusCode::RANGE_NOT_SATISFIABLE, "past_head"),
            ErrorCode::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            ErrorCode::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
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

    /// The response, with a body that a protocol has of its own.
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

/// An HTTP/1.1 response that says why the connection of a client is not served. It is the same for
/// every request.
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
