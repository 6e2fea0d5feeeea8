//! Daemon behind a reverse proxy that is configured as docs/http.md says.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
};

use harness::{Daemon, Pfs, Running, address_of_its_own, binary, eventually};

use crate::http::tls::Authority;

/// A reverse proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

/// Daemon, and the proxy in front of it.
pub(super) struct Behind {
    pub(super) daemon: Daemon,
    authority: Authority,
    /// URLs of the proxy: HTTP/1.1, and HTTP/2 over TLS.
    urls: [String; 2],
    proxy: Running,
}

/// Addresses of the proxy.
struct Listen {
    plain: SocketAddr,
    secure: SocketAddr,
}

impl Behind {
    #[track_caller]
    pub(super) fn new(kind: Kind) -> Self {
        let mut listen = Listen { plain: address_of_its_own(), secure: address_of_its_own() };
        listen.plain.set_port(8080);
        listen.secure.set_port(8443);
        let Listen { plain, secure } = &listen;
        // The daemon accepts the addresses as host names too.
        let name = "\"streams.example.org\"";
        let names = format!("{name}, \"{}\", \"{}\"", plain.ip(), secure.ip());
        let documented = documented("/etc/pfs/pfsd.toml");
        let http =
            documented.lines().find(|line| line.starts_with("allowed_hosts")).expect("the names");
        let daemon = Daemon::with_http_config(&format!("[http]\n{}\n", put(http, name, &names)));

        let authority = Authority::new("our own");
        let folder = daemon.dir().to_owned();
        let proxy = match kind {
            Kind::Nginx => nginx(&folder, &daemon, &authority, &listen),
            Kind::Haproxy => haproxy(&folder, &daemon, &authority, &listen),
            Kind::Caddy => caddy(&folder, &daemon, &authority, &listen),
        };
        let urls = [format!("http://{plain}"), format!("https://{secure}")];
        let mut behind = Self { daemon, authority, urls, proxy };
        eventually("the proxy listens", || {
            assert!(behind.proxy.runs(), "the proxy ended at once: {}", behind.proxy.stderr());
            [plain, secure].iter().all(|address| TcpStream::connect(address).is_ok())
        });
        behind
    }

    /// Returns the URLs of the proxy: HTTP/1.1, and HTTP/2 over TLS.
    pub(super) fn urls(&self) -> [&str; 2] {
        self.urls.each_ref().map(String::as_str)
    }

    /// Builds a `pfs` command line with one of these URLs.
    pub(super) fn pfs(&self, url: &str, args: &[&str]) -> Pfs {
        Pfs::new(binary("pfs"))
            .env("PFS_CA_FILE", self.authority.root())
            .args(["--url", url])
            .args(args)
    }

    /// Builds a `curl` command line for this path, with the HTTP version that `pfs` uses at
    /// this URL.
    pub(super) fn curl(&self, url: &str, args: &[&str], path: &str) -> Pfs {
        let curl =
            Pfs::new("curl").args(["-q", "-f", "-sS", "--noproxy", "*", "--no-buffer", "--cacert"]);
        curl.arg(self.authority.root()).args(args).arg(format!("{url}{path}"))
    }
}

/// Returns the block of docs/http.md that starts with this file name.
#[track_caller]
fn documented(file: &str) -> String {
    let text = include_str!("../../../docs/http.md");
    let lines = text.lines().skip_while(|line| *line != format!("    # {file}"));
    let block = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let block: String =
        block.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect();
    assert!(!block.is_empty(), "docs/http.md has no block for {file}");
    block
}

/// Replaces `from`, which must occur in the text, with `to`.
#[track_caller]
fn put(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the documentation has no {from:?} in {text}");
    text.replace(from, to)
}

/// Address of the daemon in the documentation.
const DAEMON: &str = "127.0.0.1:4437";

#[track_caller]
fn nginx(folder: &Path, daemon: &Daemon, authority: &Authority, listen: &Listen) -> Running {
    let identity = authority.server(&[&listen.secure.ip().to_string()]);
    let server = documented("/etc/nginx/conf.d/pfs.conf");
    let server = put(&server, DAEMON, &daemon.http_address().to_string());
    let both = format!("listen {} ssl http2; listen {};", listen.secure, listen.plain);
    let server = put(&server, "listen 443 ssl http2;", &both);
    let server = put(&server, "/etc/ssl/streams.pem", &identity.certificate.display().to_string());
    let server = put(&server, "/etc/ssl/streams.key", &identity.key.display().to_string());
    let at = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.map(|name| format!("{name}_temp_path {at}/{name};\n")).concat();
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{server}}}\n"
    );
    std::fs::write(&config, text).unwrap();
    Pfs::new("nginx").arg("-c").arg(config).args(["-e", "stderr"]).spawn()
}

#[track_caller]
fn haproxy(folder: &Path, daemon: &Daemon, authority: &Authority, listen: &Listen) -> Running {
    let identity = authority.server(&[&listen.secure.ip().to_string()]);
    let pem = folder.join("haproxy.pem");
    let parts =
        [identity.certificate, identity.key].map(|part| std::fs::read_to_string(part).unwrap());
    std::fs::write(&pem, parts.concat()).unwrap();
    let sections = documented("/etc/haproxy/haproxy.cfg");
    let sections = put(&sections, DAEMON, &daemon.http_address().to_string());
    let tls = format!("ssl crt {} alpn h2,http/1.1", pem.display());
    let both = format!("bind {} {tls}\n    bind {}", listen.secure, listen.plain);
    let sections =
        put(&sections, "bind :443 ssl crt /etc/haproxy/streams.pem alpn h2,http/1.1", &both);
    let config = folder.join("haproxy.cfg");
    // The relevant part of Debian's defaults.
    let defaults = "defaults\n    mode http\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\n";
    std::fs::write(&config, format!("global\n{defaults}\n{sections}")).unwrap();
    Pfs::new("haproxy").arg("-db").arg("-f").arg(config).spawn()
}

#[track_caller]
fn caddy(folder: &Path, daemon: &Daemon, authority: &Authority, listen: &Listen) -> Running {
    let identity = authority.server(&[&listen.secure.ip().to_string()]);
    let site = put(&documented("/etc/caddy/Caddyfile"), DAEMON, &daemon.http_address().to_string());
    let tls = format!("tls {} {}", identity.certificate.display(), identity.key.display());
    let Listen { plain, secure } = listen;
    let secure = put(
        &site,
        "streams.example.org {",
        &format!("https://{secure} {{\nbind {}\n{tls}", secure.ip()),
    );
    let plain = put(
        &site,
        "streams.example.org {",
        &format!("http://:{} {{\nbind {}", plain.port(), plain.ip()),
    );
    let config = folder.join("Caddyfile");
    std::fs::write(&config, format!("{{\nadmin off\nauto_https off\n}}\n{plain}{secure}")).unwrap();
    let caddy = Pfs::new("caddy").args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
    caddy.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).spawn()
}
