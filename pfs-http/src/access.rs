//! Authentication: the caller of a request, by its token.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pfs_host::{Caller, Permissions};
use pfs_proto::Peer;

use super::{Site, origin::is_unasked, problem::Problem, tokens::Tokens};

/// What is answered to everybody: that the daemon lives, and a page that asks for a token.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz") || path.starts_with("/assets/")
}

/// Puts the [`Caller`] into the request's extensions, or refuses the request.
pub(crate) async fn identify(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let permissions = match &site.tokens {
        None => Permissions::all(),
        Some(tokens) => match permissions(tokens, request.headers()) {
            Ok(permissions) => permissions,
            Err(_) if is_open(request.uri().path()) => Permissions::of(Vec::new()),
            Err(refusal) => return refusal.into_response(),
        },
    };
    let permissions = if is_unasked(request.headers()) { permissions.unasked() } else { permissions };
    request.extensions_mut().insert(Caller { peer: Peer::default(), permissions, transport: "http" });
    next.run(request).await
}

fn permissions(tokens: &Tokens, headers: &HeaderMap) -> Result<Permissions, Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(Refusal::NoToken) };
    if given.next().is_some() {
        return Err(Refusal::NoToken);
    }
    let (scheme, token) = split(value.as_bytes());
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Refusal::NoToken);
    }
    tokens.permissions(token).cloned().ok_or(Refusal::UnknownToken)
}

fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let space = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(space);
    (scheme, token.trim_ascii())
}

/// Why nobody knows who asks.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NoToken,
    UnknownToken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, challenge, message) = match self {
            Self::NoToken => (
                "no_token",
                r#"Bearer realm="pfs""#,
                "this daemon wants a token; send one as: Authorization: Bearer TOKEN (pfs: --token-file)",
            ),
            Self::UnknownToken => (
                "unknown_token",
                r#"Bearer realm="pfs", error="invalid_token""#,
                "this token is not in the daemon's token file",
            ),
        };
        let mut response = Problem::new(StatusCode::UNAUTHORIZED, code, message).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}
