//! Tokens and certificates from files.

use std::{fs, path::Path};

use super::HttpEndpoint;
use crate::EndpointError;

impl HttpEndpoint {
    /// Authenticates with the token in a file. Like [`with_token`](Self::with_token). The file must
    /// hold exactly one token. Comments are allowed, and so are permissions after the token, as in
    /// a daemon's token file.
    ///
    /// # Errors
    ///
    /// [`EndpointError::File`] if the file cannot be read or does not hold one token.
    pub fn with_token_file(self, path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        self.with_file("the token file", path.as_ref(), |endpoint, bytes| {
            endpoint.with_token(token(bytes)?).map_err(|error| error.to_string())
        })
    }

    /// Trusts the CA certificates in a file. Like [`with_ca`](Self::with_ca).
    ///
    /// # Errors
    ///
    /// [`EndpointError::File`] if the file cannot be read or holds no certificates.
    pub fn with_ca_file(self, path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        self.with_file("the file of trusted certificates", path.as_ref(), |endpoint, bytes| {
            endpoint.with_ca(bytes).map_err(|error| error.to_string())
        })
    }

    /// Authenticates with the client certificate and private key in a file. Like
    /// [`with_identity`](Self::with_identity).
    ///
    /// # Errors
    ///
    /// [`EndpointError::File`] if the file cannot be read or holds no certificate with its key.
    pub fn with_identity_file(self, path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        self.with_file("the file of the client's certificate", path.as_ref(), |endpoint, bytes| {
            endpoint.with_identity(bytes).map_err(|error| error.to_string())
        })
    }

    fn with_file(
        self,
        what: &'static str,
        path: &Path,
        with: impl FnOnce(Self, &[u8]) -> Result<Self, String>,
    ) -> Result<Self, EndpointError> {
        let bytes = fs::read(path).map_err(|error| error.to_string());
        let with = bytes.and_then(|bytes| with(self, &bytes));
        with.map_err(|reason| EndpointError::File { what, path: path.to_owned(), reason })
    }
}

/// Parses a token file.
fn token(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| EndpointError::Token.to_string())?;
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(line, _)| line));
    let mut tokens = lines.filter_map(|line| line.split_whitespace().next());
    let token = tokens.next().ok_or("the file holds no token")?;
    if tokens.any(|other| other != token) {
        return Err("the file holds several tokens; it must hold one".to_owned());
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_holds_one_token() {
        assert_eq!(token(b"secret\n").unwrap(), "secret");
        assert_eq!(
            token(b"# for cameras\n\n secret read,write / # all\nsecret read").unwrap(),
            "secret"
        );
        for bytes in [&b""[..], b"# none\n", b"one\ntwo\n", b"\xff"] {
            assert!(token(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_unusable_file_is_named_in_the_error() {
        let endpoint = HttpEndpoint::new("http://h").unwrap();
        let error = endpoint.with_ca_file("/missing/ca").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot use the file of trusted certificates /missing/ca: "),
            "{error}"
        );
    }
}
