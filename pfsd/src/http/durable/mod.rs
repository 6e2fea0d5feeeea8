//! The Durable Streams protocol 1.0 at /v1/stream.

use std::sync::Arc;

use axum::Router;

use crate::http::Site;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new()
}
