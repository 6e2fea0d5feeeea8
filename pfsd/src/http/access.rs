//! Who a request comes from, and what it may do.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use pfs_proto::Peer;

use super::{Site, problem::Problem};
use crate::connection::Client;

/// What the client of a request may do. Every handler asks it before it touches a stream.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    client: Client,
}

impl Access {
    /// Whether it may read the stream of this path, or list what is below it.
    pub(crate) fn may_read(&self, _path: &str) -> Result<(), Problem> {
        Ok(())
    }

    /// Whether it may create, append to, close and remove the stream of this path.
    pub(crate) fn may_write(&self, _path: &str) -> Result<(), Problem> {
        Ok(())
    }

    /// Who it is, for the engine and the log.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// Puts an [`Access`] into the request's extensions.
pub(crate) async fn identify(State(_site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Access { client: Client { peer: Peer::default() } });
    next.run(request).await
}
