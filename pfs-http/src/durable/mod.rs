//! Durable Streams protocol 1.0 at `/v1/stream`.
//!
//! `/v1/stream/cam` is the stream `cam` of the first mount, the same stream that other protocols
//! see. An append is a chunk. In a stream of JSON, each message is a chunk, so a batch makes
//! several chunks. A read of bytes that the ring has dropped is answered with 410.

mod append;
mod cache;
mod catch_up;
mod create;
mod gather;
mod headers;
mod inspect;
mod json;
mod lifetime;
mod long_poll;
mod media_type;
mod offset;
mod page;
mod producer;
mod query;
mod read;
mod refusal;
mod sse;
mod state;
mod target;

use std::sync::Arc;

use axum::{Router, middleware::map_response, response::Response, routing};

use crate::Site;

/// Routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    let methods = routing::get(read::serve)
        .head(inspect::head)
        .put(create::serve)
        .post(append::serve)
        .delete(inspect::delete)
        .layer(map_response(secure));
    Router::new().route("/v1/stream/{*name}", methods)
}

/// Adds the headers that every response of the protocol has, including refusals.
async fn secure(mut response: Response) -> Response {
    headers::secure(response.headers_mut());
    response
}
