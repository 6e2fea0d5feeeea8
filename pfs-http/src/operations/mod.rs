//! For operators: liveness, metrics, the description of the API and the dashboard.

mod dashboard;
mod metrics;
mod openapi;
mod tally;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;

pub(crate) use self::tally::{More, Protocol, Tallied, Tally};
use super::Site;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/assets/dashboard.js", get(dashboard::script))
        .route("/assets/follow.js", get(dashboard::follower))
        .route("/assets/dashboard.css", get(dashboard::style))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics::answer))
        .route("/openapi.json", get(openapi::answer))
}

/// That the daemon lives and answers. Nothing about its streams: everybody may ask this.
async fn health() -> impl IntoResponse {
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([no_store], Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })))
}
