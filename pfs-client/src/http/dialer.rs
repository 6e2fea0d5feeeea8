//! HTTP dialer: opens connections with POST requests.

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

/// The path below the daemon's URL where connections are opened.
const PLACE: &str = "v1/frames";

/// The most bytes of puts in one request, and so the largest chunk that one request puts. A daemon
/// reads a request of up to 16 KiB to its end before it answers. Proxies written in Go may abort a
/// larger request if the response starts before the request has ended.
pub(crate) const MAX_PUT_BYTES: usize = 12 * 1024;

/// Time limit for connecting over TCP, including TLS for `https://`.
const CONNECTING: Duration = Duration::from_secs(5);

/// Larger requests go into a body instead of a header. Every proxy accepts a header of this size,
/// encoded in base64.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// Time limit for a response that probably will not come.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// TCP keepalive: the idle time before the first probe, the interval between probes, and
/// their number.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Flow control window of one HTTP/2 stream, in bytes.
const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Opens connections to one daemon. The connections share HTTP's pool of TCP connections.
pub(crate) struct Dialer {
    client: Client,
    /// The URL, for messages.
    daemon: String,
    place: Url,
    token: Option<HeaderValue>,
    /// The proxy's name, if the proxy sends one. Set by the first response.
    proxy: OnceLock<Option<String>>,
    /// Whether a proxy forwards no response before the request has ended, as far as known.
    is_half_duplex: AtomicBool,
    /// Whether the daemon is too old to take frames in a header, as far as known.
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

    /// Returns true if a proxy is known to forward no response before the request has ended.
    pub(crate) fn is_half_duplex(&self) -> bool {
        self.is_half_duplex.load(Relaxed)
    }

    /// Time limit for the start of a response while the request stays open. The limit is short
    /// behind Caddy: over HTTP/1.1, Caddy forwards no response before the end of the request unless
    /// it is configured to.
    pub(crate) fn answer_patience(&self) -> Duration {
        let proxy = self.proxy.get().and_then(Option::as_deref);
        if proxy.is_some_and(|proxy| proxy.starts_with("Caddy")) {
            PROBE_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        }
    }

    /// Sends `said`, and then everything written to the exchange. Returns when the daemon starts
    /// to answer.
    pub(crate) async fn post(&self, said: Bytes) -> Result<Exchange, ConnectError> {
        let heartbeats = Heartbeats::default();
        let (pipe, body) = outgoing(said, heartbeats.clone());
        let response = answer(&self.daemon, self.request().body(body)).await?;
        Ok(Exchange::new(response, Some(pipe), heartbeats))
    }

    /// Sends `said` as the complete request. Returns when the daemon starts to answer.
    pub(crate) async fn ask(&self, said: Bytes) -> Result<Exchange, ConnectError> {
        let response = self.answer_to(said, |request| request).await?;
        self.proxy.get_or_init(|| refusal::proxy(response.headers()));
        Ok(Exchange::new(response, None, Heartbeats::default()))
    }

    /// Sends a complete request and returns its response. `with` adds headers. The frames go into a
    /// header if they fit, because a proxy written in Go may abort a response that arrives before
    /// the end of the request body.
    async fn answer_to(
        &self,
        said: Bytes,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ConnectError> {
        if said.len() <= MAX_HEADER_BYTES && !self.needs_body.load(Relaxed) {
            let request = with(self.request()).header(FRAMES, BASE64_STANDARD.encode(&said));
            // Some servers demand a length for every POST.
            let request = request.header(CONTENT_LENGTH, "0");
            let response = answer(&self.daemon, request).await?;
            if response.headers().contains_key(FRAMES) {
                return Ok(response);
            }
            // An older daemon has ignored the header. Send the frames again in a body.
            self.needs_body.store(true, Relaxed);
        }
        answer(&self.daemon, with(self.request()).body(said)).await
    }

    /// Sends `said` after an open request got no response, to find out whether writers can work
    /// half-duplex, with the response at the end.
    ///
    /// # Errors
    ///
    /// [`ConnectError::HalfDuplex`] if writers cannot work half-duplex, or if `accepted` is false.
    /// Behind nginx, half-duplex does not help: nginx needs another setting, because it also
    /// buffers the request until its end.
    pub(crate) async fn try_half_duplex(
        &self,
        said: Bytes,
        accepted: bool,
    ) -> Result<Exchange, ConnectError> {
        let response = self.answer_to(said, |request| request.header(HALF_DUPLEX, "true")).await?;
        let remedy = match refusal::proxy(response.headers()) {
            Some(proxy) if refusal::is_nginx(&proxy) => "nginx needs proxy_request_buffering off",
            _ if !accepted => "over HTTP/2 (https://), proxies usually forward answers earlier",
            _ if !response.headers().contains_key(HALF_DUPLEX) => {
                "a newer pfsd works without earlier answers"
            }
            _ => {
                self.is_half_duplex.store(true, Relaxed);
                return Ok(Exchange::new(response, None, Heartbeats::default()));
            }
        };
        Err(ConnectError::HalfDuplex { url: self.daemon.clone(), remedy })
    }

    /// Sends `said`, and then everything written to the exchange. The daemon answers after the
    /// exchange is shut down.
    pub(crate) fn post_half_duplex(&self, said: Bytes) -> Exchange {
        let heartbeats = Heartbeats::default();
        // An earlier exchange has already received the daemon's hello.
        heartbeats.begin();
        let (pipe, body) = outgoing(said, heartbeats.clone());
        let (daemon, request) =
            (self.daemon.clone(), self.request().header(HALF_DUPLEX, "true").body(body));
        Exchange::unanswered(async move { answer(&daemon, request).await }, pipe, heartbeats)
    }

    fn request(&self) -> RequestBuilder {
        let mut request = self.client.post(self.place.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
        // The process id, which `pfs stat` shows for readers and writers.
        request = request.header(ACCEPT, MEDIA_TYPE).header("pfs-pid", std::process::id());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        request
    }
}

/// Sends a request. Fails unless a daemon answers and opens a connection.
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
    // Keep the crypto provider that the program has chosen.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails if another thread was faster, which is fine.
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
        // A reader that does not read must not block other readers of this client.
        .http2_initial_connection_window_size(i32::MAX.unsigned_abs());
    // By default, reqwest has the system break a connection on which the daemon accepts no data for
    // 30 seconds. A daemon that waits for a `block` reader accepts no data for longer, and its
    // heartbeats prove that it is alive.
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
        // The system's certificates take a while to load, and plain HTTP does not need them.
        _ => builder.tls_certs_only(ca),
    };
    if let Some(identity) = &endpoint.identity {
        builder = builder.identity(Identity::from_pem(identity)?);
    }
    builder.build()
}
