//! A stream at its own path: PUT and POST append, GET follows, HEAD and DELETE.

use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Serves what no other protocol claims.
pub(crate) async fn serve() -> Response {
    Problem::new(axum::http::StatusCode::NOT_FOUND, "bad_path", "nothing here yet").into_response()
}
