//! The frames of pfs-proto as bodies of HTTP: what `pfs --url` speaks.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body::Body as _;
use pfs_host::{Caller, serve};
use pfs_proto::{MEDIA_TYPE, Peer};

use super::{Bodies, Site, connection::Connected, presence::Presence, problem::Problem};

/// Where connections are opened, one by each request. Below `/v1`, where no mount can be.
const PATH: &str = "/v1/frames";

/// In which a client on the daemon's own machine tells its process id.
const PID: &str = "pfs-pid";

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new().route(PATH, post(open))
}

/// Opens a connection: the request's body is what the client says, the response's what the daemon says. The response
/// begins at once, whatever of the request is still to come.
async fn open(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Extension(presence): Extension<Presence>,
    request: Request,
) -> Response {
    let caller = identified(caller, &request);
    let media_type = request.headers().get(header::CONTENT_TYPE);
    if media_type.is_none_or(|media_type| media_type != MEDIA_TYPE) {
        let message = format!(
            "{PATH} is for pfs --url, and takes {MEDIA_TYPE} only; plain requests go to the stream's own path"
        );
        return Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_media_type", message).into_response();
    }
    // The response of a writer's request may end first, and then this end closes the connection. The client must not take it
    // for one that it can use again, and lose its next request.
    let goes_on = request.version() < Version::HTTP_2 && request.body().size_hint().exact().is_none();
    let (bodies, response) = Bodies::new(request.into_body(), presence);
    // A task of its own, so that it comes to its proper end when the client hangs up. It ends with the response.
    tokio::spawn(serve(bodies, caller, Arc::clone(&site.daemon)));
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies collect a response before they pass it on, unless told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let mut response = (headers, response).into_response();
    if goes_on {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The caller with its process id, which a client on this machine claims. It only appears in the log and in `stat`.
fn identified(caller: Caller, request: &Request) -> Caller {
    let connected = request.extensions().get::<Connected>();
    let is_local = connected.is_some_and(|connected| connected.remote.ip().to_canonical().is_loopback());
    // A proxy on this machine speaks for clients elsewhere.
    let is_forwarded = [HeaderName::from_static("x-forwarded-for"), header::FORWARDED, header::VIA];
    let is_forwarded = is_forwarded.iter().any(|name| request.headers().contains_key(name));
    let claimed = request.headers().get(PID).and_then(|pid| pid.to_str().ok()?.parse().ok());
    let pid = claimed.filter(|pid| *pid > 0 && is_local && !is_forwarded);
    Caller { peer: Peer { pid: pid.or(caller.peer.pid), ..caller.peer }, ..caller }
}
