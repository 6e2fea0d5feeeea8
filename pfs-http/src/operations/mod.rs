//! Operator endpoints: health check, metrics, OpenAPI description and dashboard.

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

/// Routes of this protocol.
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

/// Health check. Says nothing about streams, because every client may ask.
async fn health() -> impl IntoResponse {
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([no_store], Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })))
}
