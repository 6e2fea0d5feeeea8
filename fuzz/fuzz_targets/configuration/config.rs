//! Checks a configuration: it is refused with its line, or a daemon can start with it.

use std::time::Duration;

use pfs_host::Daemon;
use pfs_http::Setup;
use pfs_stream::CreateError;
use pfsd::config::{Config, ConfigError, IdleExit};

use crate::tokens;

/// File name used in messages.
const FILE: &str = "pfsd.toml";

pub fn check(toml: &str, memory_limit: Option<u64>) {
    match Config::from_toml(toml, FILE, memory_limit) {
        Ok(config) => check_accepted(&config),
        Err(ConfigError::Invalid(invalid)) => {
            let text = toml.split('\n').nth(invalid.line - 1);
            assert_eq!(text, Some(&invalid.text[..]), "the quoted line is in the file");
            assert!(!invalid.reason.is_empty());
            let message = invalid.to_string();
            assert!(message.starts_with(&format!("{FILE}:{}: ", invalid.line)), "{message}");
            // The value, perhaps with every character escaped, its line, and the allowed values.
            assert!(message.len() < 10 * toml.len() + 2000, "{} bytes", message.len());
        }
        Err(other) => panic!("{other}"),
    }
}

fn check_accepted(config: &Config) {
    let Config { host, http, idle_exit, .. } = config;
    assert!(host.limits.max_streams > 0 && host.limits.max_memory > 0);
    assert!((1..=host.max_connections).contains(&http.limits.max_connections_per_address));
    assert!((1024..=1024 * 1024).contains(&http.limits.max_header_size));
    let limits = &http.limits;
    let times =
        [limits.header_time, limits.idle_time, limits.body_stall_time, limits.long_poll_time];
    let idle_exit = match idle_exit {
        IdleExit::After(time) => Some(*time),
        _ => None,
    };
    for time in times.into_iter().chain(host.max_block_time).chain(idle_exit) {
        assert!(
            (Duration::from_millis(1)..=Duration::from_secs(24 * 3600)).contains(&time),
            "{time:?}"
        );
    }
    let lives =
        |time| (Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600)).contains(&time);
    assert!(host.idle_ttl.is_none_or(lives), "{:?}", host.idle_ttl);
    assert!((0o600..=0o777).contains(&config.socket_mode) && config.socket_mode & 0o600 == 0o600);
    let tls = http
        .tls
        .iter()
        .flat_map(|tls| [&tls.certificate, &tls.key].into_iter().chain(&tls.client_ca));
    for path in config.socket.iter().chain(&http.token_file).chain(tls) {
        assert!(path.is_absolute(), "{path:?}");
    }
    for origin in &http.allowed_origins {
        assert_eq!(origin.to_string().parse().as_ref(), Ok(origin));
    }
    check_streams(config);
    check_http(config);
}

/// Each mount accepts streams of its configured sizes.
fn check_streams(config: &Config) {
    let daemon = Daemon::new(&config.host);
    for mount in &config.host.mounts {
        let path = format!("{}/s", mount.path);
        let path: pfs_proto::StreamPath =
            path.parse().expect("a stream below a mount has a valid path");
        assert_eq!(path.mount(), mount.path);
        match daemon.registry().create(path.as_str(), mount.stream_config()) {
            Ok(stream) => assert!(stream.max_chunk() > 0),
            // Too little memory on this machine, now or for the defaults, is not a mistake in the
            // file.
            Err(CreateError::OutOfMemory(_)) => {}
            Err(error) => {
                let is_noted =
                    config.notes.iter().any(|note| note.starts_with("no stream can grow to"));
                assert!(is_noted, "{error}: {config:?}");
            }
        }
    }
}

/// A daemon that listens beyond loopback requires tokens.
fn check_http(config: &Config) {
    let mut http = config.http.clone();
    // A fuzzer must not read the files of this machine.
    http.tls = None;
    http.token_file = config.http.token_file.as_ref().map(|_| tokens::valid().to_owned());
    match Setup::prepare(&config.host.mounts, &http) {
        Ok(None) => assert_eq!(http.address, None),
        Ok(Some(setup)) => {
            assert_eq!(http.address, Some(setup.address()));
            let is_loopback = setup.address().ip().to_canonical().is_loopback();
            assert!(
                is_loopback || http.token_file.is_some(),
                "anyone can reach {}",
                setup.address()
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
