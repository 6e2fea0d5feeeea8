//! For operators: liveness, metrics, the description of the API and the dashboard.

use std::sync::Arc;

use axum::Router;

use super::Site;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new()
}
