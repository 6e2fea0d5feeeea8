//! Reload of tokens, certificates and limits while the daemon serves HTTP.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use harness::{Daemon, HttpConnection, Pfs, Running, Signal, eventually, noise};
use tempfile::TempDir;

use super::tls::{Authority, Identity};

const S: &str = "/streamfs/s";
const KEPT: &str = "kept-kept-kept-kept-kept";
const GONE: &str = "gone-gone-gone-gone-gone";
const NEW: &str = "new-new-new-new-new-new";

/// Token file of the daemon.
struct Tokens {
    _folder: TempDir,
    file: PathBuf,
}

impl Tokens {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Self { file: folder.path().join("tokens"), _folder: folder };
        tokens.write(text);
        tokens
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
        fs::set_permissions(&self.file, Permissions::from_mode(0o600)).unwrap();
    }

    fn toml(&self) -> String {
        format!("[auth]\ntoken_file = {:?}\n", self.file)
    }

    /// Writes a file with one token, for `pfs`.
    fn file_of(&self, token: &str) -> PathBuf {
        let file = self.file.with_file_name(token);
        fs::write(&file, token).unwrap();
        file
    }
}

fn status(daemon: &Daemon, token: &str) -> u16 {
    daemon.ask("GET", "/streamfs/", [("authorization", &*format!("Bearer {token}"))], b"").status
}

fn curl(daemon: &Daemon, token: &str) -> Running {
    daemon.curl(["-H", &format!("authorization: Bearer {token}")], "/streamfs/s?slow=block").spawn()
}

#[test]
fn sighup_ends_the_requests_of_a_removed_token_and_leaves_a_running_stream_alone() {
    let tokens = Tokens::new(&format!("{KEPT}\n{GONE}\n"));
    let daemon = Daemon::with_http_config(&tokens.toml());
    daemon.create(S);
    let pfs = |token: &str, args: &[&str]| {
        daemon.pfs_http([]).args(args).arg(S).env("PFS_TOKEN_FILE", tokens.file_of(token))
    };
    let mut local = daemon.piped_reader(S, ["--slow", "block"]);
    let mut kept =
        daemon.attached(S, pfs(KEPT, &["cat", "--stream", "--slow", "block"]).stdout_pipe());
    let digests = [local.digest_stdout(), kept.digest_stdout()];
    let gone = daemon.attached(S, pfs(GONE, &["cat", "--stream"]));
    let curls = [curl(&daemon, KEPT), curl(&daemon, GONE)];
    daemon.has_readers(S, 5);
    let mut writer = pfs(KEPT, &["write", "--stream", "--close"]).stdin_pipe().spawn();
    let mut killed = pfs(GONE, &["write", "--stream"]).stdin_pipe().spawn();
    eventually("both write", || daemon.stat(S).unwrap()["writers"].as_array().unwrap().len() == 2);
    let fed = writer.feed(|number| noise(number as u64, 10_000));
    eventually("all read", || curls.iter().all(|curl| curl.stdout_len() > 0));

    tokens.write(&format!("{KEPT}\n{NEW} read\n"));
    daemon.signal(Signal::HUP);
    eventually("it has reloaded", || {
        daemon.log().contains("auth.token_file has 2 tokens (1 added, 1 removed)")
    });
    assert_eq!([KEPT, NEW, GONE].map(|token| status(&daemon, token)), [200, 200, 401]);
    gone.finish()
        .exits(1)
        .says("the daemon's tokens were reloaded: this token may not read /streamfs/s");
    let [kept_curl, gone_curl] = curls;
    let gone_curl = gone_curl.finish();
    assert!([18, 56].contains(&gone_curl.code), "curl: {} {}", gone_curl.code, gone_curl.stderr);
    killed.end_input();
    killed.finish().exits(1).says("this token may not write /streamfs/s");
    assert_eq!(daemon.stat_number(S, "writers_died"), 1);

    let head = daemon.head(S);
    eventually("the stream goes on", || daemon.head(S) > head + 1_000_000);
    let fed = fed.end();
    writer.finish().exits(0).quietly();
    for digest in digests {
        assert_eq!(digest.join().unwrap(), harness::digest(&fed));
    }
    local.finish().exits(0).quietly();
    kept.finish().exits(0).quietly();
    kept_curl.finish().exits(0);
}

#[test]
fn newly_required_tokens_are_also_required_of_running_requests() {
    let tokens = Tokens::new(&format!("{KEPT}\n"));
    let daemon = Daemon::with_http();
    daemon.create(S);
    let without = daemon.attached(S, daemon.pfs_http(["cat", "--stream", S]));
    let local = daemon.reader(S, []);
    daemon.reload(&tokens.toml()).exits(0);
    without.finish().exits(1).says("tokens were reloaded");
    daemon.get("/streamfs/").has(401).refuses("no_token");
    let with = daemon.pfs_http(["cat", "--stream", S]).env("PFS_TOKEN_FILE", tokens.file_of(KEPT));
    let with = daemon.attached(S, with);
    let told = daemon.reload("").exits(0);
    assert!(told.text().contains("HTTP no longer needs a token"), "{}", told.text());
    daemon.get("/streamfs/").has(200);
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    assert_eq!((with.finish().exits(0).text(), local.finish().exits(0).text()), ("all", "all"));
}

#[test]
fn an_invalid_token_file_revokes_no_token() {
    let tokens = Tokens::new(&format!("{KEPT}\n"));
    let daemon = Daemon::with_http_config(&tokens.toml());
    daemon.create(S);
    let reader =
        daemon.pfs_http(["cat", "--stream", S]).env("PFS_TOKEN_FILE", tokens.file_of(KEPT));
    let reader = daemon.attached(S, reader);
    for (text, words) in
        [("# nobody\n", "has no token"), ("\nshort\n", "tokens:2: a token must have at least 16")]
    {
        tokens.write(text);
        let run = daemon.reload(&format!("{}[limits]\nmax_streams = 1\n", tokens.toml())).exits(1);
        run.says(words).says("the old configuration stays in force");
        assert!(daemon.log().contains(words), "{}", daemon.log());
        assert_eq!(status(&daemon, KEPT), 200);
    }
    daemon.create("/streamfs/2");
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    assert_eq!(reader.finish().exits(0).text(), "all");
}

#[test]
fn new_connections_get_the_new_certificate_and_a_reader_over_the_old_one_goes_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let daemon = old.daemon("");
    daemon.create(S);
    let toml = fs::read_to_string(daemon.config()).unwrap();
    let reader = daemon.curl([], S).arg("--cacert").arg(old.root()).spawn();
    daemon.has_readers(S, 1);
    let asked = |authority: &Authority, more: &[&str]| {
        daemon
            .curl(["-f", "-o", "/dev/null"], "/healthz")
            .arg("--cacert")
            .arg(authority.root())
            .args(more)
            .run()
    };
    asked(&old, &[]).exits(0);

    // As in a renewal: the same files get new contents.
    let (from, to) = (new.server(&["localhost", "127.0.0.1"]), old.server_files());
    fs::copy(from.certificate, &to.certificate).unwrap();
    // The key does not match the certificate yet.
    let said = daemon.reload(&toml).exits(1);
    said.says("do not match").says("the old configuration stays in force");
    asked(&old, &[]).exits(0);
    fs::copy(from.key, &to.key).unwrap();
    let told = daemon.reload(&toml).exits(0);
    assert!(
        told.text().contains("http.certificate reloaded for new connections"),
        "{}",
        told.text()
    );
    asked(&old, &[]).exits(60);
    asked(&new, &[]).exits(0);

    // From now on clients must present certificates too.
    daemon.reload(&format!("{toml}client_ca = {:?}\n", new.root())).exits(0);
    asked(&new, &[]).exits(56);
    let Identity { certificate, key } = new.client("client", 4095);
    asked(&new, &["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()])
        .exits(0);

    let data = noise(1, 3 * 1024 * 1024);
    daemon.pfs(["write", "--stream", "--close", S]).stdin(&data[..]).run().exits(0);
    assert_eq!(harness::digest(&reader.finish().exits(0).stdout), harness::digest(&data));
}

#[test]
fn new_http_limits_apply_and_the_metrics_show_them() {
    let daemon = Daemon::with_http();
    let asked = |connection: &mut HttpConnection, size: usize| {
        connection.request("GET", "/streamfs/", &[("x-large", &"x".repeat(size))], None);
        connection.response().status
    };
    let mut held = daemon.http();
    assert_eq!(asked(&mut held, 9_000), 200);
    let toml = "[limits]\nmax_header_size = \"8KB\"\nmax_connections = 50\nmax_connections_per_address = 1\n\
                max_streams = 77\nmax_memory = \"77MB\"\n";
    daemon.reload(toml).exits(0);
    assert_eq!(asked(&mut held, 9_000), 431);
    assert_eq!(asked(&mut held, 7_000), 200);
    daemon.get("/streamfs/").has(429).refuses("too_many_connections");
    daemon.reload(&toml.replace("address = 1", "address = 9")).exits(0);
    let metrics = daemon.get("/metrics").has(200).text().to_owned();
    for line in [
        "pfs_connections_limit 50",
        "pfs_streams_limit 77",
        &format!("pfs_ring_memory_limit_bytes {}", 77 * 1024 * 1024),
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
}

#[test]
fn a_reload_promises_no_more_descriptors_than_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let (config, socket) = (folder.path().join("pfsd.toml"), folder.path().join("s"));
    fs::write(&config, "[limits]\nmax_connections = 10\nmax_streams = 10\n").unwrap();
    let pfsd = harness::binary("pfsd");
    let (pfsd, config, socket) = (pfsd.display(), config.display(), socket.display());
    let line = format!(
        "ulimit -n 400; exec {pfsd} --config {config} --socket {socket} --http 127.0.0.1:0"
    );
    let daemon = Pfs::shell(&line).spawn();
    let mut address = None;
    eventually("it serves", || {
        let log = daemon.stderr();
        address =
            log.lines().find_map(|line| line.split_once("serving HTTP address=")?.1.parse().ok());
        address.is_some()
    });
    assert!(!daemon.stderr().contains("ulimit"), "{}", daemon.stderr());
    fs::write(config.to_string(), "[limits]\nmax_connections = 1000\nmax_streams = 1000\n")
        .unwrap();
    let told = Pfs::shell(&format!("{pfsd} --reload --socket {socket}")).run().exits(0);
    assert!(told.text().contains("limits.max_connections from 10 to 1000"), "{}", told.text());
    let shares = "(ulimit -n) is 400, and the configuration needs up to 2192; the daemon allows at most 104 connections";
    assert!(told.text().contains(shares), "{}", told.text());
    assert!(daemon.stderr().contains(shares), "{}", daemon.stderr());
    let mut metrics = HttpConnection::connect(address.unwrap());
    metrics.request("GET", "/metrics", &[], None);
    let metrics = metrics.response().has(200).text().to_owned();
    assert!(metrics.lines().any(|line| line == "pfs_connections_limit 104"), "{metrics}");
}
