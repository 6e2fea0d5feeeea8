//! The frames of pfs-proto as bodies of HTTP: what `pfs --url` speaks.

use std::sync::Arc;

use axum::Router;

use super::Site;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new()
}
