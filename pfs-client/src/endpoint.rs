//! Endpoints: the Unix socket, lookup or URL of a daemon.

use std::{env, ffi::OsString, fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

#[cfg(feature = "link")]
use crate::Connector;
#[cfg(feature = "http")]
use crate::http::HttpEndpoint;
use crate::{ConnectError, lookup::Lookup};

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// The socket of the user's daemon, found by lookup: each connect takes the first place where a
    /// daemon answers.
    Lookup(Lookup),
    /// A URL.
    #[cfg(feature = "http")]
    Http(HttpEndpoint),
    /// A transport of the program's own. Internal API, like the feature.
    #[cfg(feature = "link")]
    #[doc(hidden)]
    Connector(Connector),
}

#[cfg(feature = "http")]
impl From<HttpEndpoint> for Endpoint {
    fn from(endpoint: HttpEndpoint) -> Self {
        Self::Http(endpoint)
    }
}

#[cfg(feature = "link")]
impl From<Connector> for Endpoint {
    fn from(connector: Connector) -> Self {
        Self::Connector(connector)
    }
}

impl Default for Endpoint {
    /// The daemon that `pfs` finds without configuration: [`Lookup::from_environment`]. Ignores
    /// `PFS_SOCKET` and `PFS_URL`; [`Endpoint::from_env`] reads them.
    fn default() -> Self {
        Self::Lookup(Lookup::from_environment())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Lookup(lookup) => lookup.fmt(f),
            #[cfg(feature = "http")]
            Self::Http(endpoint) => endpoint.url().fmt(f),
            #[cfg(feature = "link")]
            Self::Connector(connector) => connector.name().fmt(f),
        }
    }
}

/// Parses a URL if the text begins with `http://` or `https://` (needs the feature `http`),
/// otherwise the path of a Unix socket.
///
/// ```
/// use pfs_client::Endpoint;
///
/// assert_eq!("/run/pfs/pfsd.sock".parse(), Ok(Endpoint::Unix("/run/pfs/pfsd.sock".into())));
/// ```
impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(place: &str) -> Result<Self, EndpointError> {
        if ["http://", "https://"].iter().any(|scheme| place.starts_with(scheme)) {
            return Self::from_url(place);
        }
        if place.is_empty() { Err(EndpointError::Empty) } else { Ok(Self::Unix(place.into())) }
    }
}

impl Endpoint {
    /// The endpoint from the environment variables that `pfs` reads: `PFS_SOCKET`, or `PFS_URL`
    /// with `PFS_TOKEN` or `PFS_TOKEN_FILE`, `PFS_CA_FILE` and `PFS_CLIENT_CERT_FILE`. Without
    /// `PFS_SOCKET` and `PFS_URL`, the [default](Self::default). An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// Two variables exclude each other, or the value of a variable is unusable.
    pub fn from_env() -> Result<Self, EndpointError> {
        Self::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, EndpointError> {
        match (variable("PFS_SOCKET"), variable("PFS_URL")) {
            (Some(_), Some(_)) => {
                Err(EndpointError::BothSet { one: "PFS_SOCKET", other: "PFS_URL" })
            }
            (Some(path), None) => Ok(Self::Unix(path.into())),
            (None, Some(url)) => {
                let url = url.to_str().ok_or(EndpointError::NotUtf8 { variable: "PFS_URL" })?;
                Self::from_url(url)?.with_variables(variable)
            }
            (None, None) => Ok(Self::default()),
        }
    }

    #[cfg(feature = "http")]
    fn from_url(url: &str) -> Result<Self, EndpointError> {
        HttpEndpoint::new(url).map(Self::Http)
    }

    #[cfg(not(feature = "http"))]
    fn from_url(url: &str) -> Result<Self, EndpointError> {
        Err(EndpointError::NoHttp { url: url.to_owned() })
    }

    /// Adds the token, the CA and the client certificate from the environment to a URL endpoint.
    #[cfg_attr(
        not(feature = "http"),
        expect(unused_variables, reason = "without HTTP, there is no URL")
    )]
    fn with_variables(
        self,
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, EndpointError> {
        #[cfg(feature = "http")]
        if let Self::Http(mut endpoint) = self {
            endpoint = match (variable("PFS_TOKEN"), variable("PFS_TOKEN_FILE")) {
                (Some(_), Some(_)) => {
                    return Err(EndpointError::BothSet {
                        one: "PFS_TOKEN",
                        other: "PFS_TOKEN_FILE",
                    });
                }
                (Some(token), None) => endpoint.with_token(token.to_str().unwrap_or_default())?,
                (None, Some(file)) => endpoint.with_token_file(file)?,
                (None, None) => endpoint,
            };
            if let Some(file) = variable("PFS_CA_FILE") {
                endpoint = endpoint.with_ca_file(file)?;
            }
            if let Some(file) = variable("PFS_CLIENT_CERT_FILE") {
                endpoint = endpoint.with_identity_file(file)?;
            }
            return Ok(Self::Http(endpoint));
        }
        Ok(self)
    }

    /// Resolves a lookup to the socket where a daemon answers. Other endpoints stay as they are.
    pub(crate) fn found(self) -> Result<Self, ConnectError> {
        Ok(match self {
            Self::Lookup(lookup) => Self::Unix(lookup.find()?.socket),
            named => named,
        })
    }
}

/// Why an endpoint is invalid or unusable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is empty.
    #[error("the endpoint is empty; name a daemon by the path of its socket or by its URL")]
    Empty,
    /// Two variables are set that exclude each other.
    #[error("{one} and {other} are both set; unset one")]
    BothSet {
        /// The first variable.
        one: &'static str,
        /// The second variable.
        other: &'static str,
    },
    /// The value of a variable is not UTF-8.
    #[error("{variable} is not UTF-8")]
    NotUtf8 {
        /// The variable.
        variable: &'static str,
    },
    /// The endpoint is a URL, and the program was built without the feature `http`.
    #[error(
        "{url} cannot be used: this program was built without HTTP, the feature `http` of pfs-client"
    )]
    NoHttp {
        /// The URL.
        url: String,
    },
    /// The text is not a valid daemon URL.
    #[error("{url:?} is not the URL of a daemon: {reason}; an example is http://127.0.0.1:4437")]
    Url {
        /// The text.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The token is empty, or has spaces or control characters.
    #[error("the token is empty or contains spaces or control characters; a token is one word")]
    Token,
    /// The PEM data holds no CA certificates.
    #[error("the data does not hold certificates in PEM: {0}")]
    Certificates(String),
    /// The PEM data holds no certificate with its private key.
    #[error("the data does not hold a certificate with its private key in PEM: {0}")]
    Identity(String),
    /// A file cannot be read, or its contents are invalid.
    #[error("cannot use {what} {}: {reason}", path.display())]
    File {
        /// The role of the file.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(environment: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &'static str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        let endpoint = Endpoint::from_variables(variable);
        endpoint.map(|endpoint| endpoint.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_selects_a_socket_or_the_lookup() {
        assert_eq!(from(&[("PFS_SOCKET", "/s")]).unwrap(), "/s");
        assert_eq!(from(&[("PFS_TOKEN", "for a URL")]).unwrap(), Endpoint::default().to_string());
        let both = from(&[("PFS_SOCKET", "/s"), ("PFS_URL", "http://h")]).unwrap_err();
        assert_eq!(both, "PFS_SOCKET and PFS_URL are both set; unset one");
    }

    #[cfg(feature = "http")]
    #[test]
    fn the_environment_selects_a_url_and_its_credentials() {
        let url = ("PFS_URL", "http://h");
        assert_eq!(from(&[url, ("PFS_TOKEN", "word")]).unwrap(), "http://h:4437");
        assert!(from(&[url, ("PFS_TOKEN", "two words")]).unwrap_err().contains("one word"));
        assert!(
            from(&[url, ("PFS_TOKEN", "word"), ("PFS_TOKEN_FILE", "/t")])
                .unwrap_err()
                .contains("both set")
        );
        let missing = from(&[url, ("PFS_CLIENT_CERT_FILE", "/missing/pem")]).unwrap_err();
        assert!(
            missing.starts_with("cannot use the file of the client's certificate /missing/pem: "),
            "{missing}"
        );
    }

    #[cfg(feature = "http")]
    #[test]
    fn an_endpoint_with_a_scheme_is_a_url_and_any_other_text_a_socket() {
        let there = Endpoint::Http(HttpEndpoint::new("https://h").unwrap());
        assert_eq!("https://h".parse(), Ok(there));
        assert_eq!("h".parse(), Ok(Endpoint::Unix("h".into())));
        assert_eq!("".parse::<Endpoint>(), Err(EndpointError::Empty));
    }

    #[cfg(not(feature = "http"))]
    #[test]
    fn a_url_is_refused_without_the_http_feature() {
        assert!(matches!("http://h".parse::<Endpoint>(), Err(EndpointError::NoHttp { .. })));
    }
}
