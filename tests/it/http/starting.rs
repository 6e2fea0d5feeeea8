//! Start of the HTTP server, and refusals to start.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use harness::{Daemon, Finished, Pfs, Signal, binary, eventually};
use tempfile::TempDir;

/// Builds a `pfsd` command line in this folder with this configuration.
fn pfsd(folder: &Path, toml: &str) -> Pfs {
    let config = folder.join("pfsd.toml");
    std::fs::write(&config, toml).unwrap();
    Pfs::new(binary("pfsd")).arg("--config").arg(config).arg("--socket").arg(folder.join("s"))
}

/// Checks that `--check-config` and a start both refuse this configuration. Returns the message.
fn refused(folder: &Path, toml: &str, args: &[&str]) -> String {
    let check = pfsd(folder, toml).args(args).arg("--check-config").run().exits(1);
    let start = pfsd(folder, toml).args(args).run().exits(1);
    assert_eq!(check.stderr, start.stderr);
    assert!(!folder.join("s").exists());
    start.stderr
}

fn token_file(folder: &TempDir, mode: u32) -> String {
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    format!("[auth]\ntoken_file = {file:?}\n")
}

#[test]
fn http_beyond_loopback_does_not_start_without_tokens_or_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4437", "[::ffff:192.0.2.1]:4437"] {
        let said = refused(folder.path(), "", &["--http", address]);
        for part in ["refusing", address, "auth.token_file", "http.client_ca", "127.0.0.1"] {
            assert!(said.contains(part), "nothing of {part} in: {said}");
        }
        let file = refused(folder.path(), &format!("[listen]\nhttp = \"{address}\"\n"), &[]);
        assert!(file.contains("refusing"), "{file}");
    }
    let tokens = token_file(&folder, 0o600);
    let mut daemon = pfsd(folder.path(), &tokens).args(["--http", "0.0.0.0:0"]).spawn();
    eventually("it serves", || daemon.stderr().contains("serving HTTP address=0.0.0.0:"));
    assert!(daemon.stderr().contains("unencrypted"), "{}", daemon.stderr());
    assert!(daemon.runs());
    daemon.signal(Signal::TERM);
    daemon.finish().exits(0);
}

#[test]
fn a_flag_overrides_the_environment_and_the_environment_overrides_the_file() {
    let serves = |toml: &str, environment: Option<&str>, args: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let pfsd = environment
            .iter()
            .fold(pfsd(folder.path(), toml), |pfsd, value| pfsd.env("PFSD_HTTP", value));
        let daemon = pfsd.args(args).spawn();
        eventually("it serves", || daemon.stderr().contains("serving HTTP address="));
        daemon.signal(Signal::TERM);
        let log = daemon.finish().exits(0).stderr;
        let address = log.split_once("address=").unwrap().1;
        address.split_once(':').unwrap().0.to_owned()
    };
    let file = "[listen]\nhttp = \"127.0.0.2:0\"\n";
    assert_eq!(serves(file, None, &[]), "127.0.0.2");
    assert_eq!(serves(file, Some("127.0.0.3:0"), &[]), "127.0.0.3");
    assert_eq!(serves(file, Some("127.0.0.3:0"), &["--http", "127.0.0.4:0"]), "127.0.0.4");
    for port in [":0", "0", "localhost:0"] {
        assert_eq!(serves(file, None, &["--http", port]), "127.0.0.1", "{port}");
    }
}

#[test]
fn http_is_off_unless_it_is_requested() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = pfsd(folder.path(), "[http]\nallowed_hosts = [\"a.example\"]\n").spawn();
    eventually("it serves", || daemon.stderr().contains("serving socket="));
    eventually("the socket is there", || folder.path().join("s").exists());
    daemon.signal(Signal::TERM);
    let log = daemon.finish().exits(0).stderr;
    assert!(!log.contains("HTTP") && !log.contains("no effect"), "{log}");
}

#[test]
fn unusable_files_are_named_with_the_problem() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let missing = folder.path().join("missing").display().to_string();
    let empty = place("empty", "# nothing\n");
    let short = place("short", "\nshort read\n");
    let wrong = place("wrong", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let token = |file: &str| format!("[auth]\ntoken_file = {file:?}\n");
    let tls = |certificate: &str, key: &str| {
        format!("[http]\ncertificate = {certificate:?}\nkey = {key:?}\n")
    };
    for (toml, parts) in [
        (token(&missing), vec!["cannot read the token file", &missing]),
        (token(folder.path().to_str().unwrap()), vec!["cannot read the token file", "directory"]),
        (token(&empty), vec!["no token in it", &empty, "openssl rand"]),
        (token(&short), vec!["short:2:", "at least 16"]),
        (tls(&missing, &missing), vec!["http.certificate", &missing]),
        (tls(&empty, &missing), vec!["http.certificate", &empty, "PEM"]),
        (tls(&wrong, &missing), vec!["http.key", &missing]),
        (tls(&wrong, &empty), vec!["http.key", &empty, "private key"]),
    ] {
        let said = refused(folder.path(), &toml, &["--http", "127.0.0.1:0"]);
        for part in parts {
            assert!(said.contains(part), "nothing of {part} in what is said of\n{toml}: {said}");
        }
        // Without HTTP none of these files is needed.
        pfsd(folder.path(), &toml).arg("--check-config").run().exits(0);
    }
}

#[test]
fn a_token_file_that_others_can_read_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, warned) in [(0o600, false), (0o644, true)] {
        let toml = token_file(&folder, mode);
        let checked = pfsd(folder.path(), &toml)
            .args(["--http", "127.0.0.1:0", "--check-config"])
            .run()
            .exits(0);
        assert_eq!(checked.text().contains("chmod 600"), warned, "{}", checked.text());
        let daemon = Daemon::with_http_config(&toml);
        assert_eq!(daemon.log().contains("chmod 600"), warned, "{}", daemon.log());
    }
}

#[test]
fn a_mount_where_something_else_is_served_is_refused_only_with_http() {
    let folder = tempfile::tempdir().unwrap();
    for mount in ["/v1", "/api", "/metrics", "/healthz", "/assets", "/openapi.json"] {
        let toml = format!("[plugins.streamfs]\npath = \"{mount}\"\n");
        let said = refused(folder.path(), &toml, &["--http", "127.0.0.1:0"]);
        assert!(said.contains(mount) && said.contains("plugins.streamfs.path"), "{said}");
        pfsd(folder.path(), &toml).arg("--check-config").run().exits(0);
    }
}

#[test]
fn an_address_in_use_is_named() {
    let daemon = Daemon::with_http();
    let folder = tempfile::tempdir().unwrap();
    let address = daemon.http_address().to_string();
    let run: Finished = pfsd(folder.path(), "").args(["--http", &address]).run().exits(1);
    run.says("cannot serve HTTP on").says(&address);
    assert!(!folder.path().join("s").exists(), "its socket is left behind");
}
