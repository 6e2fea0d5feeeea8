//! Host and origin checks (DNS rebinding, CSRF): the host names that a request may use, and the web
//! pages that may send requests.
//!
//! A web page from elsewhere can make a browser send requests to a daemon on this machine. The page
//! can resolve its own host name to this machine: `Host` is then a foreign name. Or the page can
//! address the daemon directly: `Origin` and `Sec-Fetch-Site` then name the page's site. Programs
//! other than browsers send neither `Origin` nor `Sec-Fetch-Site`, and pass.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pfs_host::refusals::Reason;
use tower_http::cors::{AllowHeaders, CorsLayer, ExposeHeaders};

use super::{Site, connection::Connected, problem::Problem};
use crate::settings::{Host, Origin, Settings, usual_port};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Allowed host names and origins.
#[derive(Debug)]
pub(crate) struct Origins {
    hosts: Vec<Host>,
    origins: Vec<Origin>,
}

/// Middleware that refuses a request for a foreign host name, or from a page that is not allowed.
pub(super) async fn check(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.origins.validate(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Origins {
    pub(super) fn new(config: &Settings) -> Self {
        Self { hosts: config.allowed_hosts.clone(), origins: config.allowed_origins.clone() }
    }

    /// CORS layer that lets pages of the allowed origins read responses. `None` if no origin
    /// is configured.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        let origins = self.origins.iter().map(|origin| HeaderValue::from_str(&origin.to_string()));
        let origins: Vec<HeaderValue> = origins.filter_map(Result::ok).collect();
        let methods = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(methods)
            .allow_headers(AllowHeaders::mirror_request())
            .allow_private_network(true)
            .expose_headers(ExposeHeaders::any());
        (!self.origins.is_empty()).then_some(layer)
    }

    fn validate(&self, request: &Request) -> Result<(), Problem> {
        let host = self.host(request)?;
        let headers = request.headers();
        let mut given = headers.get_all(header::ORIGIN).iter();
        match (given.next(), given.next()) {
            (None, _) => from_here(request.method(), headers),
            (Some(origin), None) => self.origin(origin, host.as_ref()),
            (Some(_), Some(_)) => Err(foreign("a request may have at most one Origin")),
        }
    }

    /// Host name that the request asks for. Only HTTP/1.0 may omit it.
    fn host(&self, request: &Request) -> Result<Option<Host>, Problem> {
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let named = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
        let mut first = None;
        for text in authority.into_iter().chain(named) {
            let host = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Host>().ok());
            let host = host.ok_or_else(|| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "bad_host",
                    "Host is not a host name, with or without a port",
                )
            })?;
            if !self.knows(&host, request.extensions().get()) {
                let message = format!(
                    "this daemon does not serve the host {:?}; if the daemon has this name, add the name to http.allowed_hosts",
                    host.name.chars().take(100).collect::<String>()
                );
                let problem =
                    Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", message);
                return Err(problem.because(Reason::ForeignHost));
            }
            if first.as_ref().is_some_and(|first| *first != host) {
                let message = "the request names two hosts";
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_host", message));
            }
            first = Some(host);
        }
        if first.is_none() && request.version() != Version::HTTP_10 {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_host",
                "the request has no Host",
            ));
        }
        Ok(first)
    }

    fn knows(&self, host: &Host, connected: Option<&Connected>) -> bool {
        let usual = if connected.is_some_and(|connected| connected.tls) { 443 } else { 80 };
        let address =
            host.name.parse::<std::net::IpAddr>().ok().map(|address| address.to_canonical());
        host.name == "localhost"
            || address.is_some()
                && address == connected.map(|connected| connected.local.ip().to_canonical())
            || self.hosts.iter().any(|known| {
                known.name == host.name
                    && known.port.is_none_or(|port| host.port.unwrap_or(usual) == port)
            })
    }

    fn origin(&self, origin: &HeaderValue, host: Option<&Host>) -> Result<(), Problem> {
        let parsed = origin.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
        let known = parsed.is_some_and(|origin| {
            // The scheme may differ: a proxy may speak TLS for this daemon, and keeps the
            // host name.
            let usual = usual_port(&origin.scheme);
            let same = host.is_some_and(|host| {
                host.name == origin.host.name && host.port.or(usual) == origin.host.port.or(usual)
            });
            same || self.origins.contains(&origin)
        });
        if known {
            return Ok(());
        }
        let shown: String = origin.to_str().unwrap_or("this origin").chars().take(100).collect();
        Err(foreign(&format!(
            "pages of {shown:?} may not use this daemon; to allow them, add the origin to http.allowed_origins"
        )))
    }
}

/// Refuses a page of another site that sends fetch metadata but no origin. A followed link is
/// allowed: [unasked](is_unasked) requests have no effect on other clients.
fn from_here(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let says = |name, value| says(headers, name, value);
    let elsewhere = says(SEC_FETCH_SITE, "cross-site") || says(SEC_FETCH_SITE, "same-site");
    let link = method == Method::GET
        && says(SEC_FETCH_MODE, "navigate")
        && says(SEC_FETCH_DEST, "document");
    if elsewhere && !link {
        let message = "a page of another site may not use this daemon; add its origin to http.allowed_origins, and \
                       have the page send that origin (in HTML: crossorigin)";
        return Err(foreign(message));
    }
    Ok(())
}

/// Whether the request may be sent without the user's knowledge: the browser follows a link, or
/// loads a resource for a page of another site without CORS, such as an `<img>`.
pub(crate) fn is_unasked(headers: &HeaderMap) -> bool {
    let says = |name, value| says(headers, name, value);
    let own = says(SEC_FETCH_SITE, "same-origin") || says(SEC_FETCH_SITE, "none");
    says(SEC_FETCH_MODE, "navigate") || says(SEC_FETCH_MODE, "no-cors") && !own
}

fn says(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|given| given == value)
}

fn foreign(message: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "foreign_origin", message).because(Reason::ForeignOrigin)
}
