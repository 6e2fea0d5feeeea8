//! HTTP dialer: opens connections with POST requests.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use pfs_proto::{FRAMES, HALF_DUPLEX, MEDIA_TYPE};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};

use super::{
    HttpEndpoint,
    clients::Clients,
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

/// Larger requests go into a body instead of a header. Every proxy accepts a header of this size,
/// encoded in base64.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// Time limit for a response that probably will not come.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Opens connections to one daemon. The connections share HTTP's pools of TCP connections.
pub(crate) struct Dialer {
    clients: Clients,
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
    /// The daemon's capabilities in its last hello.
    capabilities: Mutex<Option<u64>>,
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
            clients: Clients::new(endpoint).map_err(|error| failed(&error))?,
            daemon,
            place,
            token: endpoint.token.clone(),
            proxy: OnceLock::new(),
            is_half_duplex: AtomicBool::new(false),
            needs_body: AtomicBool::new(false),
            capabilities: Mutex::default(),
        })
    }

    /// Returns true if a proxy is known to forward no response before the request has ended.
    pub(crate) fn is_half_duplex(&self) -> bool {
        self.is_half_duplex.load(Relaxed)
    }

    /// The daemon's capabilities in its last hello; `None` before the first.
    pub(crate) fn capabilities(&self) -> Option<u64> {
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the daemon's capabilities.
    pub(crate) fn set_capabilities(&self, capabilities: u64) {
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = Some(capabilities);
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
        let (client, request) = self.request()?;
        let response = answer(&self.daemon, request.body(body)).await?;
        Ok(Exchange::new(client, response, Some(pipe), heartbeats))
    }

    /// Sends `said` as the complete request. Returns when the daemon starts to answer.
    pub(crate) async fn ask(&self, said: Bytes) -> Result<Exchange, ConnectError> {
        let (client, response) = self.answer_to(said, |request| request).await?;
        self.proxy.get_or_init(|| refusal::proxy(response.headers()));
        Ok(Exchange::new(client, response, None, Heartbeats::default()))
    }

    /// Sends a complete request and returns its client and its response. `with` adds headers. The
    /// frames go into a header if they fit, because a proxy written in Go may abort a response that
    /// arrives before the end of the request body.
    async fn answer_to(
        &self,
        said: Bytes,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<(Arc<Client>, Response), ConnectError> {
        let (client, request) = self.request()?;
        if said.len() <= MAX_HEADER_BYTES && !self.needs_body.load(Relaxed) {
            let request = with(request).header(FRAMES, BASE64_STANDARD.encode(&said));
            // Some servers demand a length for every POST.
            let request = request.header(CONTENT_LENGTH, "0");
            let response = answer(&self.daemon, request).await?;
            if response.headers().contains_key(FRAMES) {
                return Ok((client, response));
            }
            // An older daemon has ignored the header. Send the frames again in a body.
            self.needs_body.store(true, Relaxed);
            let (client, request) = self.request()?;
            return Ok((client, answer(&self.daemon, with(request).body(said)).await?));
        }
        Ok((client, answer(&self.daemon, with(request).body(said)).await?))
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
        let (client, response) =
            self.answer_to(said, |request| request.header(HALF_DUPLEX, "true")).await?;
        let remedy = match refusal::proxy(response.headers()) {
            Some(proxy) if refusal::is_nginx(&proxy) => "nginx needs proxy_request_buffering off",
            _ if !accepted => "over HTTP/2 (https://), proxies usually forward answers earlier",
            _ if !response.headers().contains_key(HALF_DUPLEX) => {
                "a newer pfsd works without earlier answers"
            }
            _ => {
                self.is_half_duplex.store(true, Relaxed);
                return Ok(Exchange::new(client, response, None, Heartbeats::default()));
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
        let (daemon, request) = (self.daemon.clone(), self.request());
        let response = async move {
            let (client, request) = request?;
            let response = answer(&daemon, request.header(HALF_DUPLEX, "true").body(body)).await?;
            Ok((client, response))
        };
        Exchange::unanswered(response, pipe, heartbeats)
    }

    /// A request, and the client that its exchange keeps.
    fn request(&self) -> Result<(Arc<Client>, RequestBuilder), ConnectError> {
        let client = self.clients.get().map_err(|error| ConnectError::Untrusted {
            url: self.daemon.clone(),
            reason: refusal::innermost(&error),
        })?;
        let mut request = client.post(self.place.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
        // The process id, which `pfs stat` shows for readers and writers.
        request = request.header(ACCEPT, MEDIA_TYPE).header("pfs-pid", std::process::id());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        Ok((client, request))
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
