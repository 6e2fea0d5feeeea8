//! Validation of the HTTP settings: finds mistakes at the start, at a reload, and
//! with `--check-config`.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Result, bail};
use pfs_host::MountSettings;
use rustls::ServerConfig;

use super::{tls, tokens::Tokens};

use crate::settings::Settings;

/// Paths that no mount may have, because HTTP serves something else there.
const RESERVED: [&str; 7] =
    ["/v1", "/api", "/metrics", "/healthz", "/openapi.json", "/assets", "/favicon.ico"];

/// Whether HTTP reserves this path, so that no mount can have it.
pub fn is_reserved(mount: &str) -> bool {
    RESERVED.contains(&mount)
}

/// Validated HTTP settings, with the files that they name.
pub struct Setup {
    address: SocketAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) tokens: Option<Tokens>,
    pub(super) settings: Settings,
    /// Warnings about settings that are allowed, but risky.
    pub notes: Vec<String>,
}

impl Setup {
    /// Validates the settings and reads the files that they name. Returns `None` if HTTP is off.
    ///
    /// # Errors
    ///
    /// A file cannot be used, the path of a mount is reserved, or the daemon would be open
    /// to everybody.
    pub fn prepare(mounts: &[MountSettings], http: &Settings) -> Result<Option<Self>> {
        let Some(address) = http.address else { return Ok(None) };
        let mut notes = Vec::new();
        let mut mounts = mounts.iter().map(|mount| mount.path.as_str());
        if let Some(mount) = mounts.find(|mount| is_reserved(mount)) {
            bail!(
                "plugins.streamfs.path = {mount:?} cannot be served over HTTP, which reserves {mount}; \
                 choose another path, or turn HTTP off"
            );
        }
        let by_certificate = http.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if !is_loopback(address) {
            if http.token_file.is_none() && !by_certificate {
                bail!(
                    "refusing to serve HTTP on {address}: every client that reaches it could read, write and remove \
                     every stream; set a file of tokens (auth.token_file), require client certificates \
                     (http.client_ca), or serve on 127.0.0.1 only"
                );
            }
            if http.tls.is_none() {
                notes.push(format!(
                    "tokens and streams cross the network unencrypted on {address}; set http.certificate and \
                     http.key, or serve on 127.0.0.1 behind a proxy that speaks TLS"
                ));
            }
        }
        let tokens =
            http.token_file.as_ref().map(|file| Tokens::read(file, &mut notes)).transpose()?;
        let tls = http.tls.as_ref().map(tls::config).transpose()?;
        Ok(Some(Self { address, tls, tokens, settings: http.clone(), notes }))
    }

    /// Listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of tokens; `None` without a token file.
    pub fn tokens(&self) -> Option<usize> {
        self.tokens.as_ref().map(Tokens::len)
    }

    /// Whether the daemon serves HTTPS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
