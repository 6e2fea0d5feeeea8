//! HTTP transport: connects to a daemon by its URL.

mod clients;
mod dialer;
mod exchange;
mod files;
mod refusal;

use std::{borrow::Cow, fmt};

use reqwest::{Certificate, Identity, Url, header::HeaderValue};

pub use self::refusal::ProxyBroke;
pub(crate) use self::{
    dialer::{Dialer, MAX_PUT_BYTES},
    exchange::Exchange,
};
use crate::EndpointError;

/// The default port of a daemon's URL.
const PORT: u16 = 4437;

/// A daemon's URL, with the token and certificates for the connection.
///
/// ```
/// use pfs_client::{Endpoint, HttpEndpoint};
///
/// let there = HttpEndpoint::new("https://example.org/pfs")?.with_token("secret")?;
/// assert_eq!(Endpoint::from(there).to_string(), "https://example.org:4437/pfs");
/// # Ok::<(), pfs_client::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// The URL. Always ends with a slash.
    url: Url,
    token: Option<HeaderValue>,
    ca: Vec<u8>,
    identity: Option<Vec<u8>>,
}

impl HttpEndpoint {
    /// The daemon at `url`: `http://` or `https://`, a host, an optional port (default 4437), and a
    /// path prefix if a reverse proxy serves the daemon below one. Without a scheme, `http://` is
    /// assumed. A port alone (`4437`, `:4437`) means `localhost`.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Url`] if the URL is not valid.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        let url = &*with_scheme(url);
        let wrong =
            |reason: &str| EndpointError::Url { url: shown(url), reason: reason.to_owned() };
        let mut parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("the URL must start with http:// or https://"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("a URL must not contain a name or password; set a token separately"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("a URL must not have a query or a fragment"));
        }
        if parsed.port().is_none() && !names_port(url) {
            parsed.set_port(Some(PORT)).map_err(|()| wrong("the URL has no host"))?;
        }
        let path = format!("{}/", parsed.path().trim_end_matches('/'));
        parsed.set_path(&path);
        Ok(Self { url: parsed, token: None, ca: Vec::new(), identity: None })
    }

    /// Authenticates to the daemon with this bearer token.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Token`] if the token is not a single word.
    pub fn with_token(self, token: &str) -> Result<Self, EndpointError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Token);
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| EndpointError::Token)?;
        value.set_sensitive(true);
        Ok(Self { token: Some(value), ..self })
    }

    /// Trusts certificates issued by these CA certificates (PEM), in addition to the system's.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Certificates`] if the PEM data holds no certificate.
    pub fn with_ca(self, pem: &[u8]) -> Result<Self, EndpointError> {
        match Certificate::from_pem_bundle(pem) {
            Ok(found) if found.is_empty() => {
                Err(EndpointError::Certificates("no certificate was found".to_owned()))
            }
            Ok(_) => Ok(Self { ca: pem.to_owned(), ..self }),
            Err(error) => Err(EndpointError::Certificates(refusal::innermost(&error))),
        }
    }

    /// Authenticates to the daemon with this client certificate, if the daemon asks for one. The
    /// PEM data also holds the private key.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Identity`] if the PEM data holds no certificate with its key.
    pub fn with_identity(self, pem: &[u8]) -> Result<Self, EndpointError> {
        match Identity::from_pem(pem) {
            Ok(_) => Ok(Self { identity: Some(pem.to_owned()), ..self }),
            Err(error) => Err(EndpointError::Identity(refusal::innermost(&error))),
        }
    }

    /// The URL, without a trailing slash.
    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Returns true if the host is this machine, judged by its name: `localhost` or a
    /// loopback address.
    pub fn is_local(&self) -> bool {
        self.url.host_str().is_some_and(|host| {
            let address =
                host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }
}

/// Shows which credentials are set, but never the credentials themselves.
impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint")
            .field("url", &self.url())
            .field("token", &self.token.is_some())
            .field("ca", &!self.ca.is_empty())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// Completes a URL: adds a missing scheme, and the host `localhost` to a port alone.
fn with_scheme(url: &str) -> Cow<'_, str> {
    if url.is_empty() || url.contains("://") {
        return Cow::Borrowed(url);
    }
    let port = url.strip_prefix(':').unwrap_or(url).split('/').next();
    let is_port =
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    Cow::Owned(match (is_port, url.strip_prefix(':')) {
        (true, Some(rest)) => format!("http://localhost:{rest}"),
        (true, None) => format!("http://localhost:{url}"),
        (false, _) => format!("http://{url}"),
    })
}

/// Returns true if the text of a URL names a port. A parsed URL no longer tells if the port is the
/// default port of its scheme.
fn names_port(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '\\']).next().unwrap_or_default();
    let after_address = authority.rsplit(']').next().unwrap_or_default();
    after_address.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty())
}

/// A URL for an error message: without a password, and at most 100 characters.
fn shown(url: &str) -> String {
    // A password must not appear in messages.
    let without = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    };
    let mut shown: String = without.chars().take(100).collect();
    if shown.len() < without.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_of_a_url_get_defaults_and_a_path_prefix_is_kept() {
        for (given, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost", "http://localhost:4437"),
            ("http://localhost/", "http://localhost:4437"),
            ("http://localhost:80", "http://localhost"),
            ("https://example.org:443/pfs/", "https://example.org/pfs"),
            ("https://example.org/a/b", "https://example.org:4437/a/b"),
            ("http://[::1]", "http://[::1]:4437"),
            ("http://[::1]:80", "http://[::1]"),
            ("localhost:4437", "http://localhost:4437"),
            ("camera", "http://camera:4437"),
            ("127.0.0.1:8080/pfs", "http://127.0.0.1:8080/pfs"),
            ("[::1]:80", "http://[::1]"),
            (":8080", "http://localhost:8080"),
            ("8080/pfs", "http://localhost:8080/pfs"),
        ] {
            assert_eq!(HttpEndpoint::new(given).unwrap().url(), url, "{given}");
        }
    }

    #[test]
    fn an_invalid_daemon_url_is_refused_without_repeating_its_password() {
        for (url, reason) in [
            ("", "relative URL"),
            ("ftp://localhost", "must start with http://"),
            (":", "empty host"),
            ("me:secret@localhost", "password"),
            ("http://", "empty host"),
            ("http://me:secret@localhost", "password"),
            ("http://localhost/?a=b", "query"),
            ("http://localhost:99999", "invalid port"),
        ] {
            let message = HttpEndpoint::new(url).unwrap_err().to_string();
            assert!(message.contains(reason), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_hidden_in_debug_output() {
        let endpoint = HttpEndpoint::new("http://localhost").unwrap();
        for token in ["", "two words", "line\n", "späße"] {
            assert_eq!(endpoint.clone().with_token(token), Err(EndpointError::Token), "{token:?}");
        }
        let endpoint = endpoint.with_token("s3cret").unwrap();
        assert!(!format!("{endpoint:?}").contains("s3cret"));
    }

    #[test]
    fn invalid_certificates_are_refused() {
        let endpoint = HttpEndpoint::new("https://localhost").unwrap();
        assert!(matches!(endpoint.clone().with_ca(b"no"), Err(EndpointError::Certificates(_))));
        assert!(matches!(endpoint.with_identity(b"no"), Err(EndpointError::Identity(_))));
    }

    #[test]
    fn localhost_and_loopback_addresses_are_local() {
        for (url, local) in [
            ("http://localhost", true),
            ("http://127.1.2.3", true),
            ("http://[::1]:1", true),
            ("http://192.168.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            assert_eq!(HttpEndpoint::new(url).unwrap().is_local(), local, "{url}");
        }
    }
}
