//! The HTTP side of the daemon: every stream is a URL.
//!
//! One router for all protocols; each module holds the routes of one of them. Who may do what is settled before any of
//! them is asked (`access`), and every refusal looks alike (`problem`).

mod access;
mod agfs;
mod body;
mod durable;
mod frames;
mod listener;
mod operations;
mod plain;
mod problem;
mod site;

use std::sync::Arc;

use axum::Router;

pub(crate) use self::{listener::HttpListener, site::Site};

/// All that is served over HTTP. What no protocol claims is a stream's own path.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .merge(frames::routes())
        .merge(durable::routes())
        .merge(agfs::routes())
        .merge(operations::routes())
        .fallback(plain::serve)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&site), access::identify))
        .with_state(site)
}
