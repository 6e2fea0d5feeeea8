//! The HTTP side of the daemon: every stream is a URL.
//!
//! One router for all protocols; each module holds the routes of one of them. Who may do what is settled before any of
//! them is asked (`access`), and every refusal looks alike (`problem`).

mod access;
mod activity;
mod admission;
mod agfs;
mod answer;
mod bodies;
mod body;
mod connection;
mod durable;
mod frames;
mod half_close;
mod limits;
mod operations;
mod origin;
mod plain;
mod problem;
mod record;
mod sandbox;
mod server;
pub mod settings;
mod setup;
mod site;
mod socket;
mod sse;
mod tls;
mod tokens;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use self::{bodies::Bodies, site::Site};
pub use self::{server::Server, setup::Setup};

/// All that is served over HTTP. What no protocol claims is a stream's own path.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .merge(frames::routes())
        .merge(durable::routes())
        .merge(agfs::routes())
        .merge(operations::routes())
        .fallback(plain::serve)
        // What was added last is asked first.
        .layer(from_fn_with_state(Arc::clone(&site), access::identify))
        .layer(from_fn_with_state(Arc::clone(&site), limits::check))
        .layer(option_layer(site.origins.cors()))
        .layer(from_fn_with_state(Arc::clone(&site), origin::check))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .with_state(site)
}
