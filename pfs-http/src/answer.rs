//! Rules for every response, whatever the protocol.

use std::{any::Any, convert::Infallible};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::{problem::Problem, sandbox};

/// Finishes a response: explains an error without a body, removes the body from an answer to
/// HEAD, refuses a body that only the end of the connection would end, and adds a Content
/// Security Policy.
pub(super) fn finish(method: &Method, version: Version, response: Response) -> Response {
    let head = *method == Method::HEAD;
    let mut response = explained(response);
    if version <= Version::HTTP_10 && !head && response.body().size_hint().exact().is_none() {
        response = endless().into_response();
    }
    sandbox::apply(response.headers_mut());
    if head {
        // This is the length of the handler's empty body, not of the answer to GET.
        if response.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length == "0") {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        // The new body has no known length, so that hyper adds no `Content-Length`. If the handler
        // knows the length of the answer to GET, the headers already have it.
        *response.body_mut() = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
    }
    response
}

/// Adds a problem body to an error without a body. The router sends such an error for a method that
/// a path does not support.
fn explained(response: Response) -> Response {
    let status = response.status();
    let silent = response.body().size_hint().exact() == Some(0)
        && !response.headers().contains_key(header::CONTENT_TYPE);
    if !silent || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(status, "not_found", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed =
                response.headers().get(header::ALLOW).and_then(|allow| allow.to_str().ok());
            let message = format!(
                "this path does not support this method; allowed: {}",
                allowed.unwrap_or("none")
            );
            Problem::new(status, "method_not_allowed", message)
        }
        _ => Problem::new(
            status,
            "refused",
            status.canonical_reason().unwrap_or("the request was refused"),
        ),
    };
    let (mut parts, _) = response.into_parts();
    let (explained, body) = problem.into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(explained.headers);
    Response::from_parts(parts, body)
}

/// Problem for a body of unknown length over HTTP/1.0. There, the end of the connection is the end
/// of the body: a crash of the daemon would look like the end of the stream.
fn endless() -> Problem {
    Problem::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "http_1_0",
        "HTTP/1.0 cannot tell the end of a stream from its loss; use HTTP/1.1 (in nginx: proxy_http_version 1.1)",
    )
}

/// Response of a handler that panicked. Other requests go on.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let reason = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref().copied());
    tracing::error!(
        "a request ended in a panic: {}; this is a bug in pfsd",
        reason.unwrap_or("no message")
    );
    let message = "this is a bug in pfsd; see the log of pfsd";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::Request, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    fn text(response: Response) -> String {
        let body = pollster::block_on(response.into_body().collect()).unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn live() -> Response {
        Response::new(Body::from_stream(
            futures_util::stream::pending::<Result<Bytes, Infallible>>(),
        ))
    }

    #[test]
    fn a_panic_is_a_500_that_does_not_reveal_its_message() {
        let panics = get(|| async {
            if true {
                panic!("the secret of the ring");
            }
        });
        let router = Router::new().route("/", panics).layer(CatchPanicLayer::custom(panicked));
        let response = pollster::block_on(router.oneshot(Request::new(Body::empty()))).unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = text(response);
        assert!(text.contains("\"internal\"") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn only_http_1_0_is_refused_a_body_without_a_length() {
        for (version, status) in
            [(Version::HTTP_10, 505), (Version::HTTP_11, 200), (Version::HTTP_2, 200)]
        {
            assert_eq!(finish(&Method::GET, version, live()).status(), status, "{version:?}");
            assert_eq!(finish(&Method::HEAD, version, live()).status(), 200, "{version:?}");
            let short = Response::new(Body::from("short"));
            assert_eq!(text(finish(&Method::GET, version, short)), "short", "{version:?}");
        }
    }

    #[test]
    fn an_error_without_a_body_gets_one_and_other_responses_keep_theirs() {
        let empty = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
        assert!(text(finish(&Method::GET, Version::HTTP_11, empty(418))).contains("teapot"));
        assert_eq!(text(finish(&Method::GET, Version::HTTP_11, empty(204))), "");
        let said = Response::builder().status(400).body(Body::from("why")).unwrap();
        assert_eq!(text(finish(&Method::GET, Version::HTTP_11, said)), "why");
        assert_eq!(text(finish(&Method::HEAD, Version::HTTP_11, empty(404))), "");
    }
}
