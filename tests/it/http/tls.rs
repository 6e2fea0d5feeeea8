//! HTTPS and client certificates.

use std::path::{Path, PathBuf};

use harness::{Daemon, Pfs};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use super::refusals::{logged, refusals};

/// Names in the certificates of test daemons.
const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// Certificate files, all signed by one certificate authority of the test.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

fn named(name: &str, params: &mut CertificateParams) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        named(name, &mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let place = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        let identity = Identity { certificate: place("pem"), key: place("key") };
        std::fs::write(&identity.certificate, signed.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    /// Creates a server certificate for these names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        named("pfsd", &mut params);
        self.sign("server", &params)
    }

    /// Returns the files of the server certificate that [`daemon`](Self::daemon) created.
    pub(super) fn server_files(&self) -> Identity {
        let place = |ending: &str| self.folder.path().join(format!("server.{ending}"));
        Identity { certificate: place("pem"), key: place("key") }
    }

    /// Creates a client certificate that is valid until the end of the year `until`.
    pub(super) fn client(&self, name: &str, until: i32) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        named(name, &mut params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        self.sign(name, &params)
    }

    /// Starts a daemon with the server certificate.
    pub(crate) fn daemon(&self, more: &str) -> Daemon {
        let Identity { certificate, key } = self.server(HERE);
        Daemon::with_http_config(&format!(
            "[http]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}"
        ))
    }

    pub(super) fn mutual(&self) -> Daemon {
        self.daemon(&format!("client_ca = {:?}\n", self.root()))
    }
}

fn curl(daemon: &Daemon, root: &Path, identity: Option<&Identity>, path: &str) -> Pfs {
    let curl = daemon.curl(["-f"], path).arg("--cacert").arg(root);
    match identity {
        Some(identity) => {
            curl.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key)
        }
        None => curl,
    }
}

#[test]
fn streams_go_over_tls_with_http_1_and_http_2() {
    let authority = Authority::new("our own");
    let daemon = authority.daemon("");
    assert!(daemon.url("/").starts_with("https://"));
    let root = authority.root();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let stream = format!("/streamfs/over-{version}");
        let sent = vec![b'x'; 300_000];
        curl(&daemon, &root, None, &stream).args([flag, "-T", "-"]).stdin(&sent[..]).run().exits(0);
        let read = curl(&daemon, &root, None, &format!("{stream}?until=caught-up"));
        let read = read.args([flag, "-w", "%{stderr}%{http_version}"]).run().exits(0);
        assert_eq!(read.stdout, sent);
        assert_eq!(read.stderr, version);
    }
    // Clients verify the certificate, and the daemon sends no plaintext response.
    daemon.curl([], "/healthz").run().exits(60);
    let mut clear = daemon.http();
    clear.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let said = clear.until_hung_up();
    assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_client_that_must_show_a_certificate_is_told_what_is_wrong_with_its_own() {
    let (authority, stranger) = (Authority::new("our own"), Authority::new("somebody else's"));
    let daemon = authority.mutual();
    let root = authority.root();
    let with = |identity: Option<&Identity>| curl(&daemon, &root, identity, "/healthz").run();
    with(Some(&authority.client("fine", 4095))).exits(0);
    let expired = with(Some(&authority.client("expired", 2001))).exits(56);
    expired.says("expired");
    with(None).exits(56).says("certificate required");
    with(Some(&stranger.client("foreign", 4095))).exits(56).says("unknown ca");
    with(Some(&authority.client("fine-still", 4095))).exits(0);
    let log = daemon.log();
    assert_eq!(logged(&log, "handshake"), 3, "{log}");
    let line =
        log.lines().find(|line| line.contains("reason=\"handshake\"")).unwrap().to_lowercase();
    assert!(line.contains("expired") && line.contains("remote=127.0.0.1:"), "{line}");
    let metrics = curl(&daemon, &root, Some(&authority.client("fine-again", 4095)), "/metrics")
        .run()
        .exits(0);
    assert_eq!(refusals(metrics.text(), "handshake"), 3);
}

#[test]
fn client_certificates_suffice_beyond_loopback_and_with_tokens_both_are_needed() {
    let authority = Authority::new("our own");
    let token = authority.folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123\n").unwrap();
    let Identity { certificate, key } = authority.server(HERE);
    let toml = format!(
        "[http]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {:?}\n",
        authority.root()
    );
    let config = authority.folder.path().join("pfsd.toml");
    std::fs::write(&config, &toml).unwrap();
    let check = Pfs::new(harness::binary("pfsd")).arg("--config").arg(&config);
    check.args(["--http", "0.0.0.0:0", "--check-config"]).run().exits(0);

    let daemon = Daemon::with_http_config(&format!("{toml}[auth]\ntoken_file = {token:?}\n"));
    let client = authority.client("fine", 4095);
    let asked = |identity: Option<&Identity>, token: &str| {
        let header = format!("authorization: Bearer {token}");
        curl(&daemon, &authority.root(), identity, "/streamfs/").args(["-H", &header]).run().code
    };
    assert_eq!(asked(Some(&client), "0123456789abcdef0123"), 0);
    assert_eq!(asked(Some(&client), "wrong-wrong-wrong-wrong"), 22);
    assert_eq!(asked(None, "0123456789abcdef0123"), 56);
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_refused() {
    let authority = Authority::new("our own");
    let (one, other) = (authority.server(HERE), authority.client("other", 4095));
    let config = authority.folder.path().join("pfsd.toml");
    std::fs::write(
        &config,
        format!("[http]\ncertificate = {:?}\nkey = {:?}\n", one.certificate, other.key),
    )
    .unwrap();
    let check = Pfs::new(harness::binary("pfsd")).arg("--config").arg(&config);
    let run = check.args(["--http", "127.0.0.1:0", "--check-config"]).run().exits(1);
    run.says("http.certificate").says("http.key").says("do not match");
}

#[test]
fn an_unfinished_tls_handshake_times_out() {
    let authority = Authority::new("our own");
    let daemon = authority.daemon("[limits]\nheader_time = \"200ms\"\n");
    let mut silent = daemon.http();
    assert!(silent.until_hung_up().is_empty());
    let mut slow = daemon.http();
    slow.send(&[0x16, 0x03, 0x01]);
    assert!(slow.until_hung_up().is_empty());
    assert!(daemon.log().contains("handshake took too long"), "{}", daemon.log());
}
