//! HTTP settings: listen address, allowed hosts and origins, TLS files, tokens and limits.

use std::{
    fmt,
    net::{AddrParseError, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// HTTP settings of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Listen address; `None` turns HTTP off.
    pub address: Option<SocketAddr>,
    /// Host names that a request may use, besides `localhost` and the address that the client
    /// connected to.
    pub allowed_hosts: Vec<Host>,
    /// Origins whose pages may use this daemon from a browser.
    pub allowed_origins: Vec<Origin>,
    /// TLS files; `None` serves plain HTTP.
    pub tls: Option<TlsFiles>,
    /// File of tokens and their permissions; `None` lets every client do everything.
    pub token_file: Option<PathBuf>,
    /// Limits for one client.
    pub limits: Limits,
}

/// TLS files, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate, followed by the intermediate certificates up to its root.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// Authority that signs client certificates; `None` asks clients for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Limits for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections from one address.
    pub max_connections_per_address: usize,
    /// Maximum size of all headers of a request, in bytes.
    pub max_header_size: usize,
    /// Time limit for the headers of a request, and for the TLS handshake before them.
    pub header_time: Duration,
    /// Time limit for a connection without a request.
    pub idle_time: Duration,
    /// Time limit for a body of known length that brings no bytes.
    pub body_stall_time: Duration,
    /// Time that a long-poll waits for something to read.
    pub long_poll_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections_per_address: 8192,
            max_header_size: 32 * 1024,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            body_stall_time: Duration::from_secs(30),
            long_poll_time: Duration::from_secs(20),
        }
    }
}

/// Parses a listen address: an IP address and a port. A port alone, `:PORT` and `localhost:PORT`
/// mean the IPv4 loopback address. To be reachable from other machines, the daemon needs an
/// explicit address, such as `0.0.0.0:4437`.
///
/// # Errors
///
/// Returns a message that says what is wrong with the address.
pub fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost").unwrap_or(text);
    let port = port.strip_prefix(':').or((port == text).then_some(text));
    match port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => match port.parse() {
            Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
            Err(_) => Err("a port must be a number from 0 to 65535".to_owned()),
        },
        None => text.parse().map_err(|error: AddrParseError| error.to_string()),
    }
}

/// Host name or address that a request may use for the daemon, with an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name in lower case; an IPv6 address without its brackets.
    pub name: String,
    /// Port; `None` matches every port.
    pub port: Option<u16>,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority: http::uri::Authority =
            text.parse().map_err(|_| "it is not a host name".to_owned())?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => None,
            Some(_) => Some(authority.port_u16().ok_or("it has no valid port")?),
            None => return Err("it contains a user".to_owned()),
        };
        let host = authority.host();
        let name = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
            Some(_) => return Err("its brackets do not contain an IPv6 address".to_owned()),
            None => host.trim_end_matches('.'),
        };
        // `Authority` accepts brackets anywhere.
        if name.is_empty() || name.contains(['*', '[', ']']) {
            return Err("it is not a host name".to_owned());
        }
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }
}

/// Origin of a web page, as browsers send it: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Scheme in lower case.
    pub scheme: String,
    /// Host; the port is `None` if it is the default port of the scheme.
    pub host: Host,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let letters = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(letters) {
            return Err("its scheme is invalid".to_owned());
        }
        if rest.contains(['/', '?', '#']) {
            return Err("it has more than scheme, name and port".to_owned());
        }
        let scheme = scheme.to_ascii_lowercase();
        let mut host: Host = rest.parse()?;
        if host.port == usual_port(&scheme) {
            host.port = None;
        }
        Ok(Self { scheme, host })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host: Host { name, port } } = self;
        let (open, close) = if name.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{name}{close}")?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Default port of a scheme.
pub(crate) fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: Option<u16>) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn a_port_without_an_address_is_on_loopback() {
        for (text, address) in [
            ("4437", "127.0.0.1:4437"),
            (":4437", "127.0.0.1:4437"),
            ("localhost:0", "127.0.0.1:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:4437", "[::1]:4437"),
        ] {
            assert_eq!(parse_listen_address(text).unwrap().to_string(), address, "{text}");
        }
        for text in [
            "",
            ":",
            "localhost",
            "localhost4437",
            "localhost:",
            "65536",
            "-1",
            "127.0.0.1",
            "example.org:80",
            "http://:80",
        ] {
            assert!(parse_listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (text, expected) in [
            ("Streams.Example.org", host("streams.example.org", None)),
            ("streams.example.org.:80", host("streams.example.org", Some(80))),
            ("127.0.0.1:4437", host("127.0.0.1", Some(4437))),
            ("[::1]:4437", host("::1", Some(4437))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in
            ["", "*", "a/b", "me@here", "here:", "here:99999", "here:x", ":80", "http://here"]
        {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
        for text in ["[localhost]", "[::1", "here[::1]:80", "[::1]here", "[]"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        for (text, shown) in [
            ("HTTPS://Player.example.org:443", "https://player.example.org"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), shown);
        }
        for text in [
            "*",
            "null",
            "player.example.org",
            "https://a/",
            "https://",
            "://a",
            "https://*.org",
            "1https://a",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
