//! HTTP server of the daemon: every stream is a URL.
//!
//! [`Setup`] validates the [`settings`]. [`Server`] serves the connections that a listener accepts,
//! each on a [`Socket`]: TCP, or another transport of an embedding program. One router has all
//! protocols; each protocol has a module for its routes. `access` authenticates the client before a
//! handler runs; the handler then checks the client's permission for the path. `problem` formats
//! every refusal. Streams and sessions come from `pfs-host`.
//!
//! This crate opens no listening socket and reads no configuration file; `pfsd` does both.

mod access;
mod activity;
mod admission;
mod agfs;
mod answer;
mod bodies;
mod body;
mod connection;
mod detached;
mod durable;
mod frames;
mod half_close;
mod half_duplex;
mod limits;
mod lingering;
mod media_type;
mod opening;
mod operations;
mod origin;
mod outliving;
mod plain;
mod presence;
mod problem;
mod record;
mod sandbox;
mod server;
pub mod settings;
mod setup;
mod site;
#[cfg_attr(not(target_os = "linux"), path = "no_sock_diag.rs")]
mod sock_diag;
mod socket;
mod sse;
mod tcp;
mod tls;
mod tokens;
mod trailers;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use self::{bodies::Bodies, site::Site};
pub use self::{
    problem::refusal,
    server::Server,
    setup::{Setup, is_reserved},
    socket::Socket,
    tokens::TokenChanges,
};

/// Routes of all protocols. A path that no protocol claims is the path of a stream.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .merge(frames::routes())
        .merge(durable::routes())
        .merge(agfs::routes())
        .merge(operations::routes())
        .fallback(plain::serve)
        // The layer that is added last runs first.
        .layer(from_fn_with_state(Arc::clone(&site), access::identify))
        .layer(from_fn_with_state(Arc::clone(&site), limits::check))
        .layer(option_layer(site.origins.cors()))
        .layer(from_fn_with_state(Arc::clone(&site), origin::check))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .with_state(site)
}
