//! GET of a directory: what is in it.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::Uri};
use pfs_host::Caller;
use serde_json::{Value, json};

use super::{
    node::{Node, children},
    query::Query,
    refusal::Refusal,
};
use crate::Site;

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let query = Query::of(&uri)?;
    match Node::at(&site, &caller, query.path_or_nothing().unwrap_or("/")).await? {
        Node::Directory(prefix) => Ok(Json(json!({ "files": children(&site, &caller, &prefix).await? }))),
        Node::Document(path, _) | Node::Stream(path, _) => {
            Err(Refusal::bad(format!("{path} is not a directory")))
        }
    }
}
