//! HTTP errors: converts failed requests and refusals to [`ConnectError`].

use std::{error::Error, io};

use pfs_proto::ErrorCode;
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, LOCATION, SERVER, VIA},
};
use thiserror::Error;

use crate::ConnectError;

/// The most bytes read of an error response.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// The most characters shown of a proxy's name.
const NAME_LEN: usize = 40;

/// The start of the message with which TLS reports why the other side aborted.
const ALERT: &str = "received fatal alert";

/// Converts the error of a request that got no response.
pub(super) fn unsent(daemon: &str, error: reqwest::Error) -> ConnectError {
    let url = daemon.to_owned();
    let reason = innermost(&error);
    // The server checks a client certificate only after the connection is in use. Over HTTP/2, the
    // error of a failed check keeps only its text.
    if causes(&error).any(is_tls) || reason.starts_with(ALERT) {
        return ConnectError::Untrusted { url, reason };
    }
    let system = causes(&error).find_map(|cause| cause.downcast_ref::<io::Error>());
    let kind = match system {
        Some(system) => system.kind(),
        None if error.is_timeout() => io::ErrorKind::TimedOut,
        None => io::ErrorKind::Other,
    };
    let source = io::Error::new(kind, reason);
    if error.is_connect() || error.is_timeout() {
        ConnectError::Unreachable { url, source: source.into() }
    } else {
        ConnectError::Lost(source.into())
    }
}

fn causes<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// Returns true if the cause is a TLS error. TLS errors arrive wrapped in system errors.
fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped))
}

/// Converts a response that does not open a connection.
pub(super) async fn refused(daemon: &str, mut response: Response) -> ConnectError {
    let (url, status) = (daemon.to_owned(), response.status());
    let name = proxy(response.headers());
    if status.is_redirection() {
        let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
        let target = target.unwrap_or("an unknown address");
        let message = format!(
            "the server redirects to {target}; if that is right, use the URL of the target"
        );
        return ConnectError::Rejected { url, status: status.as_u16(), message };
    }
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ERROR_BODY_BYTES {
            break;
        }
    }
    let said = said(&body);
    if let Some((Some(code), message)) = said {
        return ConnectError::Refused { code, message };
    }
    let message = said.map_or_else(|| explained(status, name.as_deref()), |(_, message)| message);
    match status {
        // From a proxy that does not reach the daemon, or from a daemon that is full at the moment.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            ConnectError::Unreachable { url, source: io::Error::other(message).into() }
        }
        _ => ConnectError::Rejected { url, status: status.as_u16(), message },
    }
}

/// Explains a status that comes without a daemon's message: the status of a proxy, usually because
/// of one of its settings.
fn explained(status: StatusCode, name: Option<&str>) -> String {
    let why = match status {
        StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            return "the server is not a pfs daemon, or the daemon is at another path".to_owned();
        }
        StatusCode::REQUEST_TIMEOUT => {
            "it does not wait that long for the request (nginx: client_body_timeout, HAProxy: timeout client)"
        }
        StatusCode::LENGTH_REQUIRED => {
            "it refuses requests of unknown length, which writers send; it must forward chunked requests"
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            "it limits the size of requests (nginx: client_max_body_size 0 lifts the limit)"
        }
        StatusCode::BAD_GATEWAY => {
            "it does not reach the daemon, or the daemon closed the connection"
        }
        StatusCode::SERVICE_UNAVAILABLE => "it has no daemon that is up",
        StatusCode::GATEWAY_TIMEOUT => {
            "the daemon did not answer in time (nginx: proxy_read_timeout, HAProxy: timeout server)"
        }
        _ => "",
    };
    let name = name.unwrap_or("the server");
    if why.is_empty() {
        format!("{name} answers {status}")
    } else {
        format!("{name} answers {status}: {why}")
    }
}

/// The name that a proxy gives itself in its responses. A daemon sends no name.
pub(super) fn proxy(headers: &HeaderMap) -> Option<String> {
    let server = headers.get(SERVER).and_then(|server| server.to_str().ok());
    let via = || headers.get_all(VIA).iter().next_back()?.to_str().ok()?.rsplit([',', ' ']).next();
    let name: String = server.or_else(via)?.trim().chars().take(NAME_LEN).collect();
    (!name.is_empty()).then_some(name)
}

/// A connection through a proxy broke: the proxy or the daemon ended it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ProxyBroke {
    message: String,
}

impl ProxyBroke {
    /// The response broke, or ended in the middle.
    pub(super) fn new(proxy: &str, reason: &io::Error, is_writer: bool) -> Self {
        let mut message = format!("{proxy} broke the connection: {reason}");
        if is_writer && is_nginx(proxy) {
            message.push_str(
                "; nginx refuses requests larger than client_max_body_size; 0 lifts this limit",
            );
        }
        Self { message }
    }
}

impl From<&ConnectError> for ProxyBroke {
    fn from(error: &ConnectError) -> Self {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self { message: format!("{error}{source}") }
    }
}

/// Returns true if the proxy is nginx, judged by its name.
pub(super) fn is_nginx(proxy: &str) -> bool {
    proxy.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("nginx"))
}

/// The daemon's error message, if the body has one, and its code, if the frame protocol
/// has the same code.
fn said(body: &[u8]) -> Option<(Option<ErrorCode>, String)> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let code = match error.get("code")?.as_str()? {
        "limit" | "too_many_connections" => Some(ErrorCode::Limit),
        "shutting_down" => Some(ErrorCode::ShuttingDown),
        "unreachable" => Some(ErrorCode::Unreachable),
        "denied" => Some(ErrorCode::Denied),
        _ => None,
    };
    let message = error.get("message")?.as_str()?;
    Some((code, message.chars().take(1000).collect()))
}

/// The innermost cause of an error: the one that happened first.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
