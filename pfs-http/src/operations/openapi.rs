//! The description of all that is served, for programs that make clients and tests from it.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};

use crate::Site;

/// Kept true by a fuzzer that reads it: `scripts/schemathesis`.
const DESCRIPTION: &str = include_str!("openapi.json");

/// The mount that it speaks of.
const MOUNT: &str = "/streamfs";

pub(super) async fn answer(State(site): State<Arc<Site>>) -> impl IntoResponse {
    let mount = site.daemon.namespace.mounts().next().filter(|mount| *mount != MOUNT);
    let description = mount.map_or(Cow::Borrowed(DESCRIPTION), |mount| described(mount).into());
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], description)
}

/// The description for another mount, of which a JSON text may need some characters escaped.
fn described(mount: &str) -> String {
    let quoted = serde_json::Value::from(mount).to_string();
    DESCRIPTION.replace(MOUNT, quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_json_that_speaks_of_the_mount() {
        for mount in [MOUNT, "/späße \\\"☂"] {
            let description: serde_json::Value = serde_json::from_str(&described(mount)).unwrap();
            assert!(description["paths"].get(format!("{mount}/{{name}}")).is_some(), "{mount}");
        }
    }
}
