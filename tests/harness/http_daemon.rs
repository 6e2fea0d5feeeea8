//! Daemon that serves HTTP, and requests to it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{Daemon, HttpConnection, HttpResponse, Pfs, Transport, binary, eventually};

const SERVING: &str = "serving HTTP";

impl Daemon {
    /// Starts a daemon with the default configuration and HTTP on a free port of 127.0.0.1.
    #[track_caller]
    pub fn with_http() -> Self {
        Self::with_http_config("")
    }

    /// Starts a daemon with this configuration (TOML) and HTTP on a free port of 127.0.0.1.
    #[track_caller]
    pub fn with_http_config(toml: &str) -> Self {
        Self::launched(toml, Some((Ipv4Addr::LOCALHOST, 0).into()), Transport::Shm)
    }

    /// Waits until the daemon logs the address where it serves HTTP.
    #[track_caller]
    pub(crate) fn serving_http(&mut self) -> (&'static str, SocketAddr) {
        let mut found = None;
        eventually("the daemon serves HTTP", || {
            assert!(self.running.runs(), "the daemon ended at once; stderr: {}", self.log());
            found = self.serving();
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Parses the newest "serving HTTP" log line into scheme and address. Ignores a line without a
    /// line end, which is still being written.
    fn serving(&self) -> Option<(&'static str, SocketAddr)> {
        let log = self.log();
        let mut lines =
            log.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(SERVING));
        let line = lines.next_back()?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
        let address = address.expect("the line tells the address").parse().expect("an address");
        Some((if line.contains("serving HTTPS") { "https" } else { "http" }, address))
    }

    /// HTTP address of the daemon.
    #[track_caller]
    pub fn http_address(&self) -> SocketAddr {
        self.http.expect("a daemon with HTTP: Daemon::with_http()")
    }

    /// Returns the URL of a path.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        // Read from the field, not from the log: crowds of clients call this all the time, and the
        // log grows.
        let origin = self.origin.as_ref().expect("a daemon with HTTP: Daemon::with_http()");
        format!("{origin}{path}")
    }

    /// Builds a `pfs` command line that connects to this daemon over HTTP.
    #[track_caller]
    pub fn pfs_http<const N: usize>(&self, args: [&str; N]) -> Pfs {
        Pfs::new(binary("pfs")).env("PFS_URL", self.url("")).args(args)
    }

    /// Builds a `curl` command line with `args` and the URL of `path`. `curl` prints only errors,
    /// and ignores its configuration file and any proxy.
    #[track_caller]
    pub fn curl<const N: usize>(&self, args: [&str; N], path: &str) -> Pfs {
        Pfs::new("curl")
            .args(["-q", "-sS", "--noproxy", "*", "--no-buffer"])
            .args(args)
            .arg(self.url(path))
    }

    /// Connects to the HTTP port, for a test that writes requests itself.
    #[track_caller]
    pub fn http(&self) -> HttpConnection {
        HttpConnection::connect(self.http_address())
    }

    /// Sends one request on a new connection and returns the complete response.
    #[track_caller]
    pub fn ask<const N: usize>(
        &self,
        method: &str,
        path: &str,
        headers: [(&str, &str); N],
        body: &[u8],
    ) -> HttpResponse {
        let mut connection = self.http();
        connection.request(method, path, &headers, Some(body));
        connection.response()
    }

    /// Sends a GET request on a new connection and returns the complete response.
    #[track_caller]
    pub fn get(&self, path: &str) -> HttpResponse {
        let mut connection = self.http();
        connection.request("GET", path, &[], None);
        connection.response()
    }
}

/// Returns a loopback address, with port 0, that no other test uses. No other test can then take
/// over the port while its server is down.
pub fn address_of_its_own() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = std::process::id().wrapping_mul(1024).wrapping_add(NEXT.fetch_add(1, Relaxed));
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(127, a, b, c), 0).into()
}
