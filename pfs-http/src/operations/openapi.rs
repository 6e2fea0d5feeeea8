//! OpenAPI description of the HTTP API, for generators of clients and tests.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};

use crate::Site;

/// Description. The fuzzer of `scripts/schemathesis` reads it and checks the daemon against it.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Mount that the description uses.
const MOUNT: &str = "/streamfs";

pub(super) async fn answer(State(site): State<Arc<Site>>) -> impl IntoResponse {
    let mount = site.daemon.namespace.mounts().next().filter(|mount| *mount != MOUNT);
    let description = mount.map_or(Cow::Borrowed(DESCRIPTION), |mount| described(mount).into());
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], description)
}

/// Description for another mount. Characters of the mount are escaped for JSON.
fn described(mount: &str) -> String {
    let quoted = serde_json::Value::from(mount).to_string();
    DESCRIPTION.replace(MOUNT, quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_json_and_names_the_mount() {
        for mount in [MOUNT, "/späße \\\"☂"] {
            let description: serde_json::Value = serde_json::from_str(&described(mount)).unwrap();
            assert!(description["paths"].get(format!("{mount}/{{name}}")).is_some(), "{mount}");
        }
    }
}
