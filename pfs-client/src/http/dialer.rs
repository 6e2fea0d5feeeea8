//! Opening connections by requests over HTTP.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use pfs_proto::MEDIA_TYPE;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Identity, StatusCode, Url, redirect};

use super::exchange::{Exchange, Heartbeats, outgoing};
use super::{HttpEndpoint, refusal};
use crate::ConnectError;

/// Where a daemon opens connections, below its URL.
const PLACE: &str = "v1/frames";

/// How long it may take until there is a connection over TCP, and TLS if that is wanted.
const CONNECTING: Duration = Duration::from_secs(5);

/// How long nothing may come before the other end is asked whether it lives, and how often then.
const SILENCE: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_secs(5);
const TIMES: u32 = 3;

/// How much of one connection's bytes may be under way over HTTP/2.
const WINDOW: u32 = 1 << 20;

/// Opens connections to one daemon. They share what lies below them as HTTP does it.
pub(crate) struct Dialer {
    client: Client,
    /// For messages.
    daemon: String,
    place: Url,
    token: Option<HeaderValue>,
}

impl Dialer {
    pub(crate) fn new(endpoint: &HttpEndpoint) -> Result<Self, ConnectError> {
        let daemon = endpoint.url().to_owned();
        let failed = |error: &dyn std::error::Error| ConnectError::Untrusted {
            url: daemon.clone(),
            reason: refusal::innermost(error),
        };
        let place = endpoint.url.join(PLACE).map_err(|error| failed(&error))?;
        Ok(Self {
            client: client(endpoint).map_err(|error| failed(&error))?,
            daemon,
            place,
            token: endpoint.token.clone(),
        })
    }

    /// Says this; with `goes_on` what is written to the exchange follows, otherwise it is all. Returns when the daemon begins to
    /// answer.
    pub(crate) async fn post(&self, said: Bytes, goes_on: bool) -> Result<Exchange, ConnectError> {
        let heartbeats = Heartbeats::default();
        let (pipe, body) = match goes_on {
            true => {
                let (pipe, body) = outgoing(said, heartbeats.clone());
                (Some(pipe), body)
            }
            false => (None, said.into()),
        };
        let mut request = self.client.post(self.place.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
        // For `pfs stat`, which tells people who reads and writes.
        request = request.header(ACCEPT, MEDIA_TYPE).header("pfs-pid", std::process::id());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let response = request.body(body).send().await;
        let response = response.map_err(|error| refusal::unsent(&self.daemon, error))?;
        let media_type = response.headers().get(CONTENT_TYPE);
        if response.status() != StatusCode::OK || media_type.is_none_or(|found| found != MEDIA_TYPE) {
            return Err(refusal::refused(&self.daemon, response).await);
        }
        Ok(Exchange::new(response, pipe, heartbeats))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

fn client(endpoint: &HttpEndpoint) -> reqwest::Result<Client> {
    // What the program has chosen, if it has.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where somebody else has been faster, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = Client::builder()
        .user_agent(concat!("pfs-client/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECTING)
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .tcp_keepalive(SILENCE)
        .tcp_keepalive_interval(AGAIN)
        .tcp_keepalive_retries(TIMES)
        .http2_keep_alive_interval(SILENCE)
        .http2_keep_alive_timeout(AGAIN.saturating_mul(TIMES))
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(WINDOW)
        // So that a reader that does not read stops no other one of this client.
        .http2_initial_connection_window_size(i32::MAX.unsigned_abs());
    if endpoint.is_local() {
        builder = builder.no_proxy();
    }
    let ca = Certificate::from_pem_bundle(&endpoint.ca)?;
    builder = match endpoint.url.scheme() {
        "https" => builder.https_only(true).tls_certs_merge(ca),
        // Those of the system take a while to be read, and are not needed.
        _ => builder.tls_certs_only(ca),
    };
    if let Some(identity) = &endpoint.identity {
        builder = builder.identity(Identity::from_pem(identity)?);
    }
    builder.build()
}
