//! Opening connections by requests over HTTP.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use pfs_proto::{FRAMES, HALF_DUPLEX, MEDIA_TYPE};
use reqwest::{
    Certificate, Client, Identity, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    redirect,
};

use super::{
    HttpEndpoint,
    exchange::{Exchange, Heartbeats, outgoing},
    refusal,
};
use crate::{ConnectError, connection::CONNECT_TIMEOUT};

/// Where a daemon opens connections, below its URL.
const PLACE: &str = "v1/frames";

/// The largest chunk that one request puts, and how much puts in one request take together, in
/// bytes. A daemon reads a request of up to 16 KiB to its end before it answers; proxies in Go may
/// break off a larger one.
pub(crate) const MAX_PUT_BYTES: usize = 12 * 1024;

/// How long it may take until there is a connection over TCP, and TLS if that is wanted.
const CONNECTING: Duration = Duration::from_secs(5);

/// Larger requests than this go into a body, in bytes. In base64 no proxy takes a smaller one for
/// too large.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// How long an answer is waited for that probably does not come.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long nothing may come before the other end is asked whether it lives, and how often then.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// How much of one connection's bytes may be under way over HTTP/2.
const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Opens connections to one daemon. They share what lies below them as HTTP does it.
pub(crate) struct Dialer {
    client: Client,
    /// For messages.
    daemon: String,
    place: Url,
    token: Option<HeaderValue>,
    /// The name of the proxy between, if there is one that gives it, once something has answered.
    proxy: OnceLock<Option<String>>,
    /// Whether an answer begins only when its request has ended, as far as that was found out.
    is_half_duplex: AtomicBool,
    /// Whether the daemon knows no frames in a header, as far as that was found out.
    needs_body: AtomicBool,
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
            proxy: OnceLock::new(),
            is_half_duplex: AtomicBool::new(false),
            needs_body: AtomicBool::new(false),
        })
    }

    /// Whether an answer begins only when its request has ended, as far as that was found out.
    pub(crate) fn is_half_duplex(&self) -> bool {
        self.is_half_duplex.load(Relaxed)
    }

    /// How long the answer to a request that goes on may take to begin. Caddy begins none over
    /// HTTP/1.1, unless it is set up to.
    pub(crate) fn answer_patience(&self) -> Duration {
        let proxy = self.proxy.get().and_then(Option::as_deref);
        if proxy.is_some_and(|proxy| proxy.starts_with("Caddy")) {
            PROBE_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        }
    }

    /// Says this, and then what is written to the exchange. Returns when the daemon begins to
    /// answer.
    pub(crate) async fn post(&self, said: Bytes) -> Result<Exchange, ConnectError> {
        let heartbeats = Heartbeats::default();
        let (pipe, body) = outgoing(said, heartbeats.clone());
        let response = answer(&self.daemon, self.request().body(body)).await?;
        Ok(Exchange::new(response, Some(pipe), heartbeats))
    }

    /// Says this, which is all. Returns when the daemon begins to answer.
    pub(crate) async fn ask(&self, said: Bytes) -> Result<Exchange, ConnectError> {
        let response = self.answer_to(said, |request| request).await?;
        self.proxy.get_or_init(|| refusal::proxy(response.headers()));
        Ok(Exchange::new(response, None, Heartbeats::default()))
    }

    /// The response to a request that says this, with what is added to it: in a header if that is
    /// possible, because a proxy in Go may break a response off that overtakes the end of a
    /// body.
    async fn answer_to(
        &self,
        said: Bytes,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ConnectError> {
        if said.len() <= MAX_HEADER_BYTES && !self.needs_body.load(Relaxed) {
            let request = with(self.request()).header(FRAMES, BASE64_STANDARD.encode(&said));
            // Some servers want every POST to tell its length.
            let request = request.header(CONTENT_LENGTH, "0");
            let response = answer(&self.daemon, request).await?;
            if response.headers().contains_key(FRAMES) {
                return Ok(response);
            }
            // An older daemon has heard nothing.
            self.needs_body.store(true, Relaxed);
        }
        answer(&self.daemon, with(self.request()).body(said)).await
    }

    /// Says this after a request that goes on got no answer, and finds out whether writers can do
    /// with an answer at the end.
    ///
    /// # Errors
    ///
    /// [`ConnectError::HalfDuplex`] if they cannot, or if they do not accept that. nginx is set up
    /// otherwise: it would pass nothing of the request on before the end, either.
    pub(crate) async fn try_half_duplex(
        &self,
        said: Bytes,
        accepted: bool,
    ) -> Result<Exchange, ConnectError> {
        let response = self.answer_to(said, |request| request.header(HALF_DUPLEX, "true")).await?;
        let remedy = match refusal::proxy(response.headers()) {
            Some(proxy) if refusal::is_nginx(&proxy) => "nginx needs proxy_request_buffering off",
            _ if !accepted => "over HTTP/2 (https://) proxies usually do",
            _ if !response.headers().contains_key(HALF_DUPLEX) => "a newer pfsd makes do with that",
            _ => {
                self.is_half_duplex.store(true, Relaxed);
                return Ok(Exchange::new(response, None, Heartbeats::default()));
            }
        };
        Err(ConnectError::HalfDuplex { url: self.daemon.clone(), remedy })
    }

    /// Says this, and then what is written to the exchange. The daemon answers when the exchange is
    /// shut down.
    pub(crate) fn post_half_duplex(&self, said: Bytes) -> Exchange {
        let heartbeats = Heartbeats::default();
        // The daemon has said hello before.
        heartbeats.begin();
        let (pipe, body) = outgoing(said, heartbeats.clone());
        let (daemon, request) =
            (self.daemon.clone(), self.request().header(HALF_DUPLEX, "true").body(body));
        Exchange::unanswered(async move { answer(&daemon, request).await }, pipe, heartbeats)
    }

    fn request(&self) -> RequestBuilder {
        let mut request = self.client.post(self.place.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
        // For `pfs stat`, which tells people who reads and writes.
        request = request.header(ACCEPT, MEDIA_TYPE).header("pfs-pid", std::process::id());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        request
    }
}

/// What answers a request, if it is a daemon that opens a connection.
async fn answer(daemon: &str, request: RequestBuilder) -> Result<Response, ConnectError> {
    let response = request.send().await.map_err(|error| refusal::unsent(daemon, error))?;
    let media_type = response.headers().get(CONTENT_TYPE);
    if response.status() != StatusCode::OK || media_type.is_none_or(|found| found != MEDIA_TYPE) {
        return Err(refusal::refused(daemon, response).await);
    }
    Ok(response)
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
        .tcp_keepalive(KEEPALIVE_IDLE)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEPALIVE_RETRIES)
        .http2_keep_alive_interval(KEEPALIVE_IDLE)
        .http2_keep_alive_timeout(KEEPALIVE_INTERVAL.saturating_mul(KEEPALIVE_RETRIES))
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(HTTP2_WINDOW_BYTES)
        // So that a reader that does not read stops no other one of this client.
        .http2_initial_connection_window_size(i32::MAX.unsigned_abs());
    // reqwest would have the system break a connection on which the daemon takes nothing for 30
    // seconds. A daemon that waits for a `block` reader takes nothing for longer, and lives:
    // heartbeats say so.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(None::<Duration>);
    }
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
