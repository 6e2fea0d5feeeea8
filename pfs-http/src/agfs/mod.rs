//! AGFS API: the part that its SDK needs for streams, at `/api/v1`.
//!
//! Paths, query, JSON and semantics are those of AGFS with its StreamFS. The status codes are more
//! precise: AGFS answers many errors with 500. The rest of the AGFS API is answered with 404.

mod directories;
mod files;
mod follow;
mod node;
mod query;
mod refusal;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{StatusCode, Uri},
    routing::get,
};
use serde_json::{Value, json};

use self::refusal::Refusal;
use crate::Site;

/// Routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    let api = Router::new()
        .route("/health", get(health))
        .route(
            "/files",
            get(files::read).put(files::write).post(files::create).delete(files::remove),
        )
        .route("/stat", get(files::stat))
        .route("/directories", get(directories::list).delete(files::remove))
        .method_not_allowed_fallback(refusal::no_such_method)
        .fallback(unknown);
    Router::new().nest("/api/v1", api)
}

/// Health check. A release has no commit and no build time, so both are `unknown`.
async fn health() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "version": env!("CARGO_PKG_VERSION"),
        "gitCommit": "unknown",
        "buildTime": "unknown",
    }))
}

async fn unknown(uri: Uri) -> Refusal {
    let path = uri.path().get(..64).unwrap_or(uri.path());
    let message = format!(
        "pfsd does not serve /api/v1{path}; of the AGFS API, pfsd serves health, files, stat and directories"
    );
    Refusal::new(StatusCode::NOT_FOUND, message)
}
