//! A daemon of the test's own that serves HTTP, and the ways to ask it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{Daemon, HttpConnection, HttpResponse, Pfs, Transport, binary, eventually};

const SERVING: &str = "serving HTTP";

impl Daemon {
    /// With the defaults, and HTTP on a free port of 127.0.0.1.
    #[track_caller]
    pub fn with_http() -> Self {
        Self::with_http_config("")
    }

    /// With this configuration (TOML), and HTTP on a free port of 127.0.0.1.
    #[track_caller]
    pub fn with_http_config(toml: &str) -> Self {
        Self::launched(toml, Some((Ipv4Addr::LOCALHOST, 0).into()), Transport::Shm)
    }

    /// Waits until it says in its log where it serves HTTP.
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

    /// The newest line about it: the scheme and the address. A line that has no end yet does not
    /// count.
    fn serving(&self) -> Option<(&'static str, SocketAddr)> {
        let log = self.log();
        let mut lines =
            log.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(SERVING));
        let line = lines.next_back()?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
        let address = address.expect("the line tells the address").parse().expect("an address");
        Some((if line.contains("serving HTTPS") { "https" } else { "http" }, address))
    }

    /// Where it serves HTTP.
    #[track_caller]
    pub fn http_address(&self) -> SocketAddr {
        self.http.expect("a daemon with HTTP: Daemon::with_http()")
    }

    /// The URL of a path.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        // Not from the log: crowds of clients ask for it all the time, and it grows.
        let origin = self.origin.as_ref().expect("a daemon with HTTP: Daemon::with_http()");
        format!("{origin}{path}")
    }

    /// A `pfs` command line that talks to this daemon over HTTP.
    #[track_caller]
    pub fn pfs_http<const N: usize>(&self, args: [&str; N]) -> Pfs {
        Pfs::new(binary("pfs")).env("PFS_URL", self.url("")).args(args)
    }

    /// `curl` with these arguments and then the URL of the path: silent but for errors, without its
    /// own configuration file and without a proxy.
    #[track_caller]
    pub fn curl<const N: usize>(&self, args: [&str; N], path: &str) -> Pfs {
        Pfs::new("curl")
            .args(["-q", "-sS", "--noproxy", "*", "--no-buffer"])
            .args(args)
            .arg(self.url(path))
    }

    /// A connection on which the test says what it likes.
    #[track_caller]
    pub fn http(&self) -> HttpConnection {
        HttpConnection::connect(self.http_address())
    }

    /// One request on a connection of its own, and its whole answer.
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

    /// GET of a path, and the whole answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> HttpResponse {
        let mut connection = self.http();
        connection.request("GET", path, &[], None);
        connection.response()
    }
}

/// A free port of a loopback address that is no other test's, so that none can take the port over
/// while its server is away.
pub fn address_of_its_own() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = std::process::id().wrapping_mul(1024).wrapping_add(NEXT.fetch_add(1, Relaxed));
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(127, a, b, c), 0).into()
}
