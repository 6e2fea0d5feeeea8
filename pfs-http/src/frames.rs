//! Frames of `pfs-proto` in HTTP bodies: the protocol of `pfs --url`.

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

/// Path that opens a frames connection, one for each request. No mount can be below `/v1`.
const PATH: &str = "/v1/frames";

/// Header in which a client on the daemon's machine sends its process id.
const PID: &str = "pfs-pid";

/// Maximum length of a request that is read to its end before it is answered. Larger than a hello
/// with any request.
const MAX_REQUEST_BYTES: u64 = 16 * 1024;

/// Routes of this protocol.
pub(crate) fn routes() -> Router<Arc<Site>> {
    Router::new().route(PATH, post(open))
}

/// Opens a frames connection: the client's frames are the request body, the daemon's frames are the
/// response body. A request of unknown length comes from a writer. Its response begins at once,
/// unless the client asks for half-duplex.
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
            "{PATH} is for pfs --url, and takes {MEDIA_TYPE} only; send plain requests to the stream's own path"
        );
        return Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_media_type", message)
            .into_response();
    }
    // The response to a writer may end before the request, and then the server closes the
    // connection. The client must not reuse the connection and lose its next request.
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
    // The session runs in its own task, so that it ends properly when the client hangs up. It ends
    // with the response.
    tokio::spawn(serve(bodies, caller, Arc::clone(&site.daemon)));
    if let Some(request) = request {
        response = request.answer(response).await;
    }
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies buffer a whole response unless this header forbids it.
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

/// Reads a body of known length to its end. Over HTTP/1.1, a proxy in Go, such as Caddy or Traefik,
/// takes the beginning of a response for the end of the request, and breaks off a request whose
/// rest it has not forwarded. Shortly after the rest was forwarded, the proxy may still do so.
/// Therefore newer `pfs` clients send no body there, but a header.
async fn read(body: Body) -> Result<Body, Problem> {
    match body.size_hint().exact() {
        Some(length) if length <= MAX_REQUEST_BYTES => {
            let read = body.collect().await.map_err(|error| limits::broken_off(&error))?;
            Ok(Body::from(read.to_bytes()))
        }
        _ => Ok(body),
    }
}

/// Decodes frames that arrive in a header.
fn decoded(frames: &HeaderValue) -> Result<Body, Problem> {
    let decoded = BASE64_STANDARD.decode(frames).map_err(|_| {
        let message = format!("the header {FRAMES} is not base64");
        Problem::new(StatusCode::BAD_REQUEST, "bad_frames", message)
    })?;
    Ok(decoded.into())
}

/// Adds the process id that a client on this machine claims to have. The id appears only in the log
/// and in `stat`.
fn identified(caller: Caller, request: &Request) -> Caller {
    let connected = request.extensions().get::<Connected>();
    let is_local =
        connected.is_some_and(|connected| connected.remote.ip().to_canonical().is_loopback());
    // A proxy on this machine may forward requests of clients elsewhere.
    let is_forwarded = [HeaderName::from_static("x-forwarded-for"), header::FORWARDED, header::VIA];
    let is_forwarded = is_forwarded.iter().any(|name| request.headers().contains_key(name));
    let claimed = request.headers().get(PID).and_then(|pid| pid.to_str().ok()?.parse().ok());
    let pid = claimed.filter(|pid| *pid > 0 && is_local && !is_forwarded);
    Caller { peer: Peer { pid: pid.or(caller.peer.pid), ..caller.peer }, ..caller }
}
