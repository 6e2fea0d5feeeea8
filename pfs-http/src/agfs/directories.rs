//! GET of a directory: what is in it.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::Uri};
use serde_json::{Value, json};

use super::{
    node::{Node, children},
    query::Query,
    refusal::Refusal,
};
use crate::{Site, access::Access};

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Extension(access): Extension<Access>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let query = Query::of(&uri)?;
    match Node::at(&site, &access, query.path_or_nothing().unwrap_or("/"))? {
        Node::Directory(prefix) => Ok(Json(json!({ "files": children(&site, &access, &prefix)? }))),
        Node::Document(path, _) | Node::Stream(path, _) => {
            Err(Refusal::bad(format!("{path} is not a directory")))
        }
    }
}
