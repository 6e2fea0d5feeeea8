//! The frames of pfs-proto as bodies of HTTP: what `pfs --url` speaks.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body::Body as _;
use http_body_util::BodyExt;
use pfs_host::{Caller, serve};
use pfs_proto::{FRAMES, HALF_DUPLEX, MEDIA_TYPE, Peer};

use super::{
    Bodies, Site, connection::Connected, half_duplex::Shared, limits, presence::Presence,
    problem::Problem,
};

/// Where connections are opened, one by each request. Below `/v1`, where no mount can be.
const PATH: &str = "/v1/frames";

/// In which a client on the daemon's own machine tells its process id.
const PID: &str = "pfs-pid";

/// A request of a known length up to this many bytes is read to its end before it is answered.
/// Larger than hello and any request.
const MAX_REQUEST_BYTES: u64 = 16 * 1024;

/// The routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new().route(PATH, post(open))
}

/// Opens a connection: the request's body is what the client says, the response's what the daemon
/// says. The response to a request of unknown length, which is a writer's, begins at once, unless
/// the client asks for the contrary.
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
        return Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_media_type", message)
            .into_response();
    }
    // The response of a writer's request may end first, and then this end closes the connection.
    // The client must not take it for one that it can use again, and lose its next request.
    let goes_on =
        request.version() < Version::HTTP_2 && request.body().size_hint().exact().is_none();
    let is_half_duplex = request.headers().contains_key(HALF_DUPLEX);
    let in_header = request.headers().get(FRAMES).cloned();
    let body = match &in_header {
        Some(frames) => decoded(frames),
        None => read(request.into_body()).await,
    };
    let body = match body {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let (body, request) = match is_half_duplex {
        true => Shared::new(body),
        false => (body, None),
    };
    let (bodies, mut response) = Bodies::new(body, presence);
    // A task of its own, so that it comes to its proper end when the client hangs up. It ends with
    // the response.
    tokio::spawn(serve(bodies, caller, Arc::clone(&site.daemon)));
    if let Some(request) = request {
        response = request.answer(response).await;
    }
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies collect a response before they pass it on, unless told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let mut response = (headers, response).into_response();
    for (name, is_there) in [(HALF_DUPLEX, is_half_duplex), (FRAMES, in_header.is_some())] {
        if is_there {
            response.headers_mut().insert(name, HeaderValue::from_static("true"));
        }
    }
    if goes_on {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The body, read to its end if its length is known. A proxy in Go, such as Caddy or Traefik, takes
/// the beginning of a response over HTTP/1.1 for the end of the request, and breaks off a request
/// whose rest it has not passed on. Shortly after that rest the same can still happen, so that
/// newer clients of ours have no body there.
async fn read(body: Body) -> Result<Body, Problem> {
    match body.size_hint().exact() {
        Some(length) if length <= MAX_REQUEST_BYTES => {
            let read = body.collect().await.map_err(|error| limits::broken_off(&error))?;
            Ok(Body::from(read.to_bytes()))
        }
        _ => Ok(body),
    }
}

/// Frames that come in a header, as a body.
fn decoded(frames: &HeaderValue) -> Result<Body, Problem> {
    let decoded = BASE64_STANDARD.decode(frames).map_err(|_| {
        let message = format!("the header {FRAMES} is not base64");
        Problem::new(StatusCode::BAD_REQUEST, "bad_frames", message)
    })?;
    Ok(decoded.into())
}

/// The caller with its process id, which a client on this machine claims. It only appears in the
/// log and in `stat`.
fn identified(caller: Caller, request: &Request) -> Caller {
    let connected = request.extensions().get::<Connected>();
    let is_local =
        connected.is_some_and(|connected| connected.remote.ip().to_canonical().is_loopback());
    // A proxy on this machine speaks for clients elsewhere.
    let is_forwarded = [HeaderName::from_static("x-forwarded-for"), header::FORWARDED, header::VIA];
    let is_forwarded = is_forwarded.iter().any(|name| request.headers().contains_key(name));
    let claimed = request.headers().get(PID).and_then(|pid| pid.to_str().ok()?.parse().ok());
    let pid = claimed.filter(|pid| *pid > 0 && is_local && !is_forwarded);
    Caller { peer: Peer { pid: pid.or(caller.peer.pid), ..caller.peer }, ..caller }
}
