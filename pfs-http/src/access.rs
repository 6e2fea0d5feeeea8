//! Authentication: identifies the caller of a request by its token.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pfs_host::{Caller, Grants, Owner, Permissions, refusals::Reason};
use pfs_proto::Peer;

use super::{
    Site,
    connection::Connected,
    origin::is_unasked,
    problem::Problem,
    tokens::{TokenChanges, Tokens},
};

/// Access control of the daemon.
#[derive(Debug)]
pub(crate) enum Access {
    /// No token file: every client may do everything.
    Open(Grants),
    /// Only clients with a token are served.
    Tokens(Tokens),
}

impl Access {
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        tokens.map_or_else(|| Self::Open(Grants::all()), Self::Tokens)
    }

    /// Takes the place of the earlier access control `before`. Requests that `before` authenticated
    /// continue with their new permissions.
    pub(super) fn succeed(self, before: &Self) -> (Self, TokenChanges) {
        match (self, before) {
            (Self::Tokens(tokens), Self::Tokens(before)) => {
                let (tokens, changes) = tokens.succeed(before);
                (Self::Tokens(tokens), changes)
            }
            (Self::Tokens(tokens), Self::Open(before)) => {
                before.revoke();
                let changes = TokenChanges { added: tokens.len(), ..TokenChanges::default() };
                (Self::Tokens(tokens), changes)
            }
            (Self::Open(_), Self::Open(before)) => {
                (Self::Open(before.clone()), TokenChanges::default())
            }
            (open @ Self::Open(_), Self::Tokens(before)) => {
                (open, TokenChanges { removed: before.len(), ..TokenChanges::default() })
            }
        }
    }
}

/// Whether a path is served without a token: the health check, and the page that asks for a token.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz") || path.starts_with("/assets/")
}

/// Authenticates a request: adds the [`Caller`] to its extensions, or refuses the request.
pub(crate) async fn identify(
    State(site): State<Arc<Site>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (owner, permissions) = match &site.current().access {
        Access::Open(grants) => (Owner::Anonymous, grants.permissions()),
        Access::Tokens(tokens) => match holder(tokens, request.headers()) {
            Ok(holder) => holder,
            Err(_) if is_open(request.uri().path()) => {
                (Owner::Anonymous, Permissions::from_grants(Vec::new()))
            }
            Err(refusal) => return refusal.into_response(),
        },
    };
    let permissions =
        if is_unasked(request.headers()) { permissions.unasked() } else { permissions };
    let remote = request.extensions().get::<Connected>().map(|connected| connected.remote);
    let caller = Caller { peer: Peer::default(), remote, owner, permissions, transport: "http" };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Owner and permissions of the token that a request carries.
fn holder(tokens: &Tokens, headers: &HeaderMap) -> Result<(Owner, Permissions), Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(Refusal::NoToken) };
    if given.next().is_some() {
        return Err(Refusal::NoToken);
    }
    let (scheme, token) = split(value.as_bytes());
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Refusal::NoToken);
    }
    let (id, permissions) = tokens.find(token).ok_or(Refusal::UnknownToken)?;
    Ok((Owner::Token(id), permissions))
}

fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let space = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(space);
    (scheme, token.trim_ascii())
}

/// Reason why a request cannot be authenticated.
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
                "this daemon requires a token; send one as: Authorization: Bearer TOKEN (pfs: --token-file)",
            ),
            Self::UnknownToken => (
                "unknown_token",
                r#"Bearer realm="pfs", error="invalid_token""#,
                "this token is not in the daemon's token file",
            ),
        };
        let problem =
            Problem::new(StatusCode::UNAUTHORIZED, code, message).because(Reason::Unauthenticated);
        let mut response = problem.into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}
