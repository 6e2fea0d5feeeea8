//! URL to stream path: the stream that a URL names.

use axum::http::{HeaderMap, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use pfs_proto::StreamPath;

use super::refusal::Refusal;
use crate::Site;

/// Path prefix of this protocol. It corresponds to the first mount.
const ROOT: &str = "/v1/stream/";

/// Stream path of a request.
pub(super) fn path(site: &Site, uri: &Uri) -> Result<StreamPath, Refusal> {
    let name = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8();
    let name = name.map_err(|_| bad_path("the name of the stream is not UTF-8"))?;
    let mount = site.daemon.namespace.mounts().next();
    let mount = mount.ok_or_else(|| bad_path("this daemon serves no mount"))?;
    format!("{mount}/{name}").parse().map_err(|error| bad_path(&format!("{error}")))
}

fn bad_path(reason: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "bad_path",
        format!("this URL cannot name a stream: {reason}"),
    )
}

/// Refuses a request that would fork a stream.
pub(super) fn refuse_forks(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.keys().find(|name| name.as_str().starts_with("stream-fork")) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "no_forks",
            format!("{name} is not supported: this server has no forks"),
        )),
    }
}
