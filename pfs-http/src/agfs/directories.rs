//! Directory listing: GET of a directory.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use pfs_host::Caller;
use serde_json::json;

use super::{
    node::{Node, children},
    query::Query,
    refusal::Refusal,
};
use crate::{Site, limits};

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::from_uri(&uri)?;
    match Node::at(&site, &caller, query.path_or_nothing().unwrap_or("/")).await? {
        Node::Directory(prefix) => {
            let body =
                limits::held(&site, &json!({ "files": children(&site, &caller, &prefix).await? }))?;
            Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
        }
        Node::Document(path, _) | Node::Stream(path, _) => {
            Err(Refusal::bad(format!("{path} is not a directory")))
        }
    }
}
