//! Dashboard: a self-contained web page that shows the data of the API.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
};

/// Content Security Policy: the page may load its own assets and query its own daemon, and
/// nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("dashboard.html"))
}

pub(super) async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("dashboard.js"))
}

pub(super) async fn follower() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("follow.js"))
}

pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("dashboard.css"))
}

fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), text)
}
