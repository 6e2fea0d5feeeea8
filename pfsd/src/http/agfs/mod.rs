//! The part of the AGFS API that its SDK needs for streams, at /api/v1.

use std::sync::Arc;

use axum::Router;

use crate::http::Site;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new()
}
