//! Error responses in the form of AGFS.

use axum::{
    Json,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use pfs_host::Failure;
use serde_json::json;

use crate::problem::Problem;

/// Error response: a status, and a JSON body whose `error` is the message.
#[derive(Debug)]
pub(super) struct Refusal(Problem);

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        // This protocol has no error codes.
        Self(Problem::new(status, "refused", message))
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Problem::from(failure).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.0.message }));
        self.0.respond(body)
    }
}

/// Answers a method that the path does not support.
pub(super) async fn no_such_method(method: Method) -> Refusal {
    let mut message = format!("{method} is not supported here");
    if method == Method::POST {
        message.push_str("; directories appear and disappear with the streams in them");
    }
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
