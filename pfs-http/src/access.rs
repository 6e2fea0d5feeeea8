//! Who a request comes from, and what it may do.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pfs_host::{Client, Permissions};
use pfs_proto::Peer;

use super::{Site, problem::Problem, tokens::Tokens};

/// What is answered to everybody: that the daemon lives, and a page that asks for a token.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz") || path.starts_with("/assets/")
}

/// What the client of a request may do. Every handler asks it before it touches a stream.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    client: Client,
    permissions: Permissions,
}

impl Access {
    /// Whether it may read the stream of this path, or list what is below it.
    pub(crate) fn may_read(&self, path: &str) -> Result<(), Problem> {
        Ok(self.permissions.may_read(path)?)
    }

    /// Whether it may create, append to, close and remove the stream of this path.
    pub(crate) fn may_write(&self, path: &str) -> Result<(), Problem> {
        Ok(self.permissions.may_write(path)?)
    }

    /// Who it is, for the engine and the log.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What it may do, for what is shared with the Unix socket.
    pub(crate) fn permissions(&self) -> &Permissions {
        &self.permissions
    }
}

/// Puts an [`Access`] into the request's extensions, or refuses the request.
pub(crate) async fn identify(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let permissions = match &site.tokens {
        None => Permissions::all(),
        Some(tokens) => match permissions(tokens, request.headers()) {
            Ok(permissions) => permissions,
            Err(_) if is_open(request.uri().path()) => Permissions::of(Vec::new()),
            Err(refusal) => return refusal.into_response(),
        },
    };
    request.extensions_mut().insert(Access { client: Client { peer: Peer::default() }, permissions });
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
