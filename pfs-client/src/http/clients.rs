//! HTTP clients of one daemon.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, Identity, redirect};

use super::HttpEndpoint;

/// Maximum number of exchanges that one client has open at the same time. Over HTTP/2 they share
/// one TCP connection. A daemon serves 128 requests at once there, HAProxy 100; further requests
/// would wait until another one ends, and readers end late.
const MAX_EXCHANGES: usize = 100;

/// Time limit for connecting over TCP, including TLS for `https://`.
const CONNECTING: Duration = Duration::from_secs(5);

/// TCP keepalive: the idle time before the first probe, the interval between probes, and
/// their number.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Flow control window of one HTTP/2 stream, in bytes.
const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// As many clients as the open exchanges need. Each has a pool of TCP connections.
pub(super) struct Clients {
    endpoint: HttpEndpoint,
    clients: Mutex<Vec<Arc<Client>>>,
}

impl Clients {
    pub(super) fn new(endpoint: &HttpEndpoint) -> reqwest::Result<Self> {
        let first = Arc::new(client(endpoint)?);
        Ok(Self { endpoint: endpoint.clone(), clients: Mutex::new(vec![first]) })
    }

    /// A client for one more exchange, which keeps the returned value until it ends.
    pub(super) fn get(&self) -> reqwest::Result<Arc<Client>> {
        if let Some(client) = self.with_room() {
            return Ok(client);
        }
        // Not under the lock: the system's certificates take a while to load.
        let new = Arc::new(client(&self.endpoint)?);
        self.lock().push(Arc::clone(&new));
        Ok(new)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_room(&self) -> Option<Arc<Client>> {
        // Over HTTP/1.1, each exchange has a connection of its own.
        let is_tls = self.endpoint.url.scheme() == "https";
        let most = if is_tls { MAX_EXCHANGES } else { usize::MAX };
        let mut clients = self.lock();
        // One reference is that of the list.
        let found = clients.iter().position(|client| Arc::strong_count(client) <= most)?;
        let client = clients.get(found).cloned()?;
        // One unused client stays for the next peak.
        while clients.len() > found.saturating_add(2)
            && clients.last().is_some_and(|last| Arc::strong_count(last) == 1)
        {
            clients.pop();
        }
        Some(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("daemon", &self.endpoint.url()).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(url: &str) -> Clients {
        Clients::new(&HttpEndpoint::new(url).unwrap()).unwrap()
    }

    #[test]
    fn exchanges_beyond_what_one_connection_serves_get_another_client() {
        let clients = clients("https://127.0.0.1:1");
        let get = |count: usize| (0..count).map(|_| clients.get().unwrap()).collect::<Vec<_>>();
        let first = get(MAX_EXCHANGES);
        assert!(first.iter().all(|client| Arc::ptr_eq(client, &first[0])));
        let next = clients.get().unwrap();
        assert!(!Arc::ptr_eq(&next, &first[0]));
        let peak = get(3 * MAX_EXCHANGES);
        assert_eq!(clients.lock().len(), 5);
        drop((first, peak));
        // A client that has room again is used before another one, and most of the others go.
        assert!(!Arc::ptr_eq(&clients.get().unwrap(), &next));
        assert_eq!(clients.lock().len(), 2);
    }

    #[test]
    fn exchanges_over_http_1_share_a_client() {
        let clients = clients("http://127.0.0.1:1");
        let all: Vec<_> = (0..2 * MAX_EXCHANGES).map(|_| clients.get().unwrap()).collect();
        assert!(all.iter().all(|client| Arc::ptr_eq(client, &all[0])));
    }
}
