//! Tests of configuration files, valid ones and ones with mistakes.

use std::time::Duration;

use pfs_host::MountSettings;
use pfs_http::settings::{Settings, TlsFiles};

use super::*;

fn error(toml: &str) -> String {
    Config::from_toml(toml, "pfsd.toml", None).expect_err(toml).to_string()
}

#[test]
fn a_configuration_of_streamfs_works_unchanged() {
    let config = Config::from_toml(
        r#"
        [plugins.streamfs]
        enabled = true
        path = "/streamfs"

          [plugins.streamfs.config]
          # Examples: "512KB", "1MB", "6MB", or 524288 (bytes)
          channel_buffer_size = "512KB"
          ring_buffer_size = 1048576
        "#,
        "pfsd.toml",
        None,
    )
    .unwrap();
    let mount = MountSettings {
        path: "/streamfs".to_owned(),
        ring_buffer_size: 1024 * 1024,
        channel_buffer_size: 512 * 1024,
    };
    let host = pfs_host::Settings { mounts: vec![mount], ..pfs_host::Settings::default() };
    assert_eq!(config, Config { host, ..Config::default() });
}

#[test]
fn every_key_sets_its_field() {
    let config = Config::from_toml(
        r#"
        [plugins.streamfs]
        path = "/live"
        [listen]
        socket = "/run/pfs/pfsd.sock"
        socket_mode = "0660"
        shm = "all"
        [auth]
        token_file = "/etc/pfs/token"
        [limits]
        max_streams = 7
        max_memory = "64MiB"
        max_streams_per_user = 5
        max_memory_per_user = "128MiB"
        max_streams_per_token = 3
        max_memory_per_token = "32MiB"
        max_connections = 9
        max_block_time = "30s"
        idle_ttl = "365days"
        "#,
        "pfsd.toml",
        None,
    )
    .unwrap();
    assert_eq!(config.host.mounts[0].path, "/live");
    assert_eq!(config.host.mounts[0].ring_buffer_size, 6 * 1024 * 1024);
    assert_eq!(config.socket.as_deref(), Some(Path::new("/run/pfs/pfsd.sock")));
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!(config.shm, Shm::All);
    assert_eq!(
        config.host.limits,
        pfs_stream::Limits { max_streams: 7, max_memory: 64 * 1024 * 1024 }
    );
    assert_eq!(
        config.host.user_quota,
        pfs_stream::Limits { max_streams: 5, max_memory: 128 * 1024 * 1024 }
    );
    assert_eq!(
        config.host.token_quota,
        pfs_stream::Limits { max_streams: 3, max_memory: 32 * 1024 * 1024 }
    );
    assert_eq!(config.host.max_connections, 9);
    assert_eq!(config.host.max_block_time, Some(Duration::from_secs(30)));
    assert_eq!(config.host.idle_ttl, Some(Duration::from_hours(365 * 24)));
    assert_eq!(config.idle_exit, IdleExit::Unset);
    assert!(config.notes.is_empty());
}

#[test]
fn only_an_autostarted_daemon_exits_when_idle_unless_the_key_is_set() {
    let minutes = |minutes| Some(Duration::from_mins(minutes));
    for (toml, autostarted, other) in [
        ("", minutes(10), None),
        ("[limits]\nidle_exit = \"1h\"", minutes(60), minutes(60)),
        ("[limits]\nidle_exit = \"never\"", None, None),
    ] {
        let config = Config::from_toml(toml, "pfsd.toml", None).unwrap();
        assert_eq!(
            (config.idle_exit.time(true), config.idle_exit.time(false)),
            (autostarted, other),
            "{toml}"
        );
    }
}

#[test]
fn an_unset_quota_limits_nothing_and_surprising_quotas_are_noted() {
    let config = |toml: &str| Config::from_toml(toml, "pfsd.toml", None).unwrap();
    let one_key = config("[limits]\nmax_streams_per_user = 2");
    let two_streams = pfs_stream::Limits { max_streams: 2, ..pfs_stream::Limits::UNLIMITED };
    assert_eq!((one_key.host.user_quota, one_key.notes.len()), (two_streams, 0));
    assert_eq!(one_key.host.token_quota, pfs_stream::Limits::UNLIMITED);
    for (toml, words) in [
        (
            "[limits]\nmax_memory_per_user = \"1MB\"",
            "max_memory_per_user keeps streams smaller than the default buffer sizes",
        ),
        ("[limits]\nmax_memory_per_token = \"9MB\"", "have no effect without auth.token_file"),
        ("[limits]\nmax_streams_per_token = 1", "have no effect without auth.token_file"),
    ] {
        let notes = config(toml).notes;
        assert!(matches!(&notes[..], [note] if note.contains(words)), "{toml}: {notes:?}");
    }
}

#[test]
fn an_empty_file_is_the_default_and_a_disabled_plugin_has_no_mount() {
    assert_eq!(Config::from_toml("", "pfsd.toml", None).unwrap(), Config::default());
    let off = Config::from_toml("[plugins.streamfs]\nenabled = false", "pfsd.toml", None).unwrap();
    assert_eq!(off.host.mounts, []);
    assert_eq!(off.notes.len(), 1);
}

#[test]
fn the_default_memory_limit_is_at_most_half_of_what_the_machine_allows() {
    let within =
        |toml: &str, limit: Option<u64>| Config::from_toml(toml, "pfsd.toml", limit).unwrap();
    for (limit, expected) in [
        (None, 1024 * 1024 * 1024),
        (Some(u64::MAX), 1024 * 1024 * 1024),
        (Some(2 * 1024 * 1024 * 1024), 1024 * 1024 * 1024),
        (Some((2 * 1024 * 1024 * 1024) - 2), (1024 * 1024 * 1024) - 1),
        (Some(64 * 1024 * 1024), 32 * 1024 * 1024),
    ] {
        let config = within("", limit);
        assert_eq!(config.host.limits.max_memory, expected, "{limit:?}");
        assert_eq!(
            config.derived.len(),
            usize::from(expected < 1024 * 1024 * 1024),
            "{:?}",
            config.derived
        );
        assert!(config.notes.is_empty(), "{:?}", config.notes);
    }
    let said = &within("", Some(64 * 1024 * 1024)).derived[0];
    assert!(said.contains("limits.max_memory is 33554432 bytes, half of"), "{said}");
}

#[test]
fn a_configured_memory_limit_is_kept_and_noted_if_the_machine_allows_less() {
    for (limit, noted) in
        [(None, false), (Some(100 * 1024 * 1024), false), (Some((100 * 1024 * 1024) - 1), true)]
    {
        let toml = "[limits]\nmax_memory = \"100MB\"";
        let config = Config::from_toml(toml, "pfsd.toml", limit).unwrap();
        assert_eq!(config.host.limits.max_memory, 100 * 1024 * 1024);
        assert_eq!(config.notes.len(), usize::from(noted), "{:?}", config.notes);
        assert!(
            config.notes.iter().all(|note| note.contains("limits.max_memory is 104857600 bytes"))
        );
        assert!(config.derived.is_empty(), "{:?}", config.derived);
    }
}

#[test]
fn default_sizes_beyond_the_memory_limit_are_noted_and_configured_ones_are_refused() {
    let small = Some(10 * 1024 * 1024);
    let config = Config::from_toml("", "pfsd.toml", small).unwrap();
    assert!(
        config.notes.iter().any(|note| note.starts_with("no stream can grow to")),
        "{:?}",
        config.notes
    );
    let toml = "[plugins.streamfs.config]\nring_buffer_size = \"7MB\"";
    let refused = Config::from_toml(toml, "pfsd.toml", small).unwrap_err().to_string();
    assert!(refused.contains("limits.max_memory = 5242880"), "{refused}");
    let toml =
        "[plugins.streamfs.config]\nring_buffer_size = \"1MB\"\nchannel_buffer_size = \"1MB\"";
    assert!(Config::from_toml(toml, "pfsd.toml", small).unwrap().notes.is_empty());
}

#[test]
fn every_http_key_sets_its_field() {
    let config = Config::from_toml(
        r#"
        [listen]
        http = "[::1]:4437"
        [http]
        allowed_hosts = ["streams.example.org"]
        allowed_origins = ["https://player.example.org"]
        certificate = "/etc/pfs/certificate.pem"
        key = "/etc/pfs/key.pem"
        client_ca = "/etc/pfs/clients.pem"
        [auth]
        token_file = "/etc/pfs/token"
        [limits]
        max_connections = 100
        max_connections_per_address = 10
        max_header_size = "8KB"
        header_time = "5s"
        idle_time = "2m"
        body_stall_time = "500ms"
        long_poll_time = "3s"
        "#,
        "pfsd.toml",
        None,
    )
    .unwrap();
    let tls = TlsFiles {
        certificate: "/etc/pfs/certificate.pem".into(),
        key: "/etc/pfs/key.pem".into(),
        client_ca: Some("/etc/pfs/clients.pem".into()),
    };
    let expected = Settings {
        address: Some("[::1]:4437".parse().unwrap()),
        allowed_hosts: vec!["streams.example.org".parse().unwrap()],
        allowed_origins: vec!["https://player.example.org".parse().unwrap()],
        tls: Some(tls),
        token_file: Some("/etc/pfs/token".into()),
        limits: pfs_http::settings::Limits {
            max_connections_per_address: 10,
            max_header_size: 8192,
            header_time: Duration::from_secs(5),
            idle_time: Duration::from_secs(120),
            body_stall_time: Duration::from_millis(500),
            long_poll_time: Duration::from_secs(3),
        },
    };
    assert_eq!(config.http, expected);
    assert!(config.notes.is_empty());
}

#[test]
fn one_address_may_take_half_of_the_connections_by_default() {
    let per_address = |toml| {
        Config::from_toml(toml, "pfsd.toml", None).unwrap().http.limits.max_connections_per_address
    };
    assert_eq!(per_address(""), 8192);
    assert_eq!(per_address("[limits]\nmax_connections = 9"), 5);
    assert_eq!(per_address("[limits]\nmax_connections = 9\nmax_connections_per_address = 100"), 9);
}

/// Each mistake: the text, the expected line number, and words that the message must contain.
const MISTAKES: &[(&str, usize, &[&str])] = &[
    (
        "[plugins.streamfs]\nenable = true",
        2,
        &["unknown key `enable`", "`enabled`", "`path`", "`config`"],
    ),
    ("[plugins.memfs]\nenabled = true", 1, &["unknown key `memfs`", "`streamfs`"]),
    ("[limit]", 1, &["unknown key `limit`", "`limits`", "`listen`"]),
    (
        "[plugins.streamfs.config]\nring_size = 1",
        2,
        &["unknown key `ring_size`", "`channel_buffer_size`", "`ring_buffer_size`"],
    ),
    ("[http]\nhosts = []", 2, &["unknown key `hosts`", "`allowed_hosts`"]),
    ("[auth]\ntoken = \"x\"", 2, &["unknown key `token`", "`token_file`"]),
    (
        "[plugins.streamfs.config]\n\nring_buffer_size = \"1XB\"",
        3,
        &["plugins.streamfs.config.ring_buffer_size = \"1XB\"", "unit is unknown", "512KB"],
    ),
    (
        "[plugins.streamfs.config]\nchannel_buffer_size = -1",
        2,
        &["channel_buffer_size = -1", "negative"],
    ),
    ("[plugins.streamfs.config]\nchannel_buffer_size = 0", 2, &["channel_buffer_size = 0", "zero"]),
    (
        "[plugins.streamfs.config]\nchannel_buffer_size = nan",
        2,
        &["channel_buffer_size = nan", "float"],
    ),
    (
        "[plugins.streamfs.config]\nchannel_buffer_size = 1.5",
        2,
        &["channel_buffer_size = 1.5", "float"],
    ),
    ("[limits]\nmax_memory = \"99999999999TB\"", 2, &["limits.max_memory", "too large"]),
    ("[limits]\nmax_memory = 99999999999999999999", 2, &["max_memory"]),
    ("[limits]\nmax_memory = true", 2, &["limits.max_memory = true", "boolean"]),
    ("[limits]\nmax_memory = \"1MB\"", 2, &["no stream can grow to", "ring_buffer_size = 6291456"]),
    (
        "[plugins.streamfs.config]\nring_buffer_size = \"1GB\"",
        2,
        &["no stream can grow to", "1073741824"],
    ),
    (
        "[plugins.streamfs.config]\nring_buffer_size = 1\nchannel_buffer_size = \"5TB\"",
        3,
        &["no stream can grow to"],
    ),
    ("[limits]\nmax_streams = 0", 2, &["limits.max_streams = 0", "out of range", "from 1 to"]),
    (
        "[limits]\nmax_streams_per_user = 0",
        2,
        &["limits.max_streams_per_user = 0", "out of range", "from 1 to"],
    ),
    (
        "[limits]\nmax_streams_per_token = true",
        2,
        &["limits.max_streams_per_token = true", "boolean"],
    ),
    ("[limits]\nmax_memory_per_user = 0", 2, &["limits.max_memory_per_user = 0", "zero"]),
    ("[limits]\nmax_memory_per_token = -1", 2, &["limits.max_memory_per_token = -1", "negative"]),
    ("[limits]\nmax_connections = -5", 2, &["limits.max_connections = -5", "from 1 to"]),
    ("[limits]\nmax_connections = \"many\"", 2, &["max_connections = \"many\"", "string"]),
    ("limits = 3", 1, &["integer `3`", "a table"]),
    (
        "[plugins.streamfs]\nenabled = \"yes\"",
        2,
        &["plugins.streamfs.enabled = \"yes\"", "true or false"],
    ),
    ("[plugins.streamfs]\npath = \"streamfs\"", 2, &["plugins.streamfs.path", "one segment"]),
    ("[plugins.streamfs]\npath = \"/a/b\"", 2, &["more than one segment"]),
    (
        "[plugins.streamfs]\npath = \"/\"",
        2,
        &["plugins.streamfs.path", "allowed: an absolute path"],
    ),
    (
        "[plugins.streamfs]\npath = \"/..\"",
        2,
        &["plugins.streamfs.path", "allowed: an absolute path"],
    ),
    ("[plugins.streamfs]\npath = \"/streamfs/\"", 2, &["plugins.streamfs.path"]),
    ("[listen]\nsocket = \"pfsd.sock\"", 2, &["listen.socket = \"pfsd.sock\"", "not absolute"]),
    ("[listen]\nsocket_mode = \"0888\"", 2, &["listen.socket_mode", "octal"]),
    ("[listen]\nsocket_mode = \"0000\"", 2, &["listen.socket_mode", "out of range"]),
    ("[listen]\nsocket_mode = \"4600\"", 2, &["listen.socket_mode", "out of range"]),
    (
        "[listen]\nsocket_mode = 600",
        2,
        &["listen.socket_mode = 600", "integer", "text of octal digits"],
    ),
    (
        "[listen]\nshm = \"none\"",
        2,
        &["listen.shm = \"none\"", "allowed: \"same-user\" or \"all\""],
    ),
    ("[listen]\nshm = true", 2, &["listen.shm = true", "boolean"]),
    ("[http]\ncertificate = \"/c\"", 2, &["http.certificate needs http.key"]),
    ("[http]\nkey = \"/k\"", 2, &["http.key needs http.certificate"]),
    ("[http]\n\nclient_ca = \"/a\"", 3, &["http.client_ca needs http.certificate and http.key"]),
    ("[http]\nkey = \"k\"", 2, &["http.key = \"k\"", "not absolute"]),
    ("[http]\nallowed_hosts = [\"http://a\"]", 2, &["http.allowed_hosts", "a list of names"]),
    (
        "[http]\nallowed_origins = [\"*\"]",
        2,
        &["http.allowed_origins", "no scheme", "https://player"],
    ),
    (
        "[http]\nallowed_origins = [\"https://a/b\"]",
        2,
        &["http.allowed_origins", "more than scheme"],
    ),
    ("[limits]\nmax_block_time = 30", 2, &["limits.max_block_time = 30", "a time from"]),
    ("[limits]\nmax_block_time = \"0s\"", 2, &["limits.max_block_time = \"0s\"", "out of range"]),
    ("[limits]\nidle_ttl = 600", 2, &["limits.idle_ttl = 600", "365days"]),
    (
        "[limits]\nidle_ttl = \"999ms\"",
        2,
        &["limits.idle_ttl = \"999ms\"", "out of range", "from \"1s\""],
    ),
    ("[limits]\nidle_ttl = \"366days\"", 2, &["limits.idle_ttl", "out of range"]),
    ("[limits]\nidle_exit = 600", 2, &["limits.idle_exit = 600", "\"never\""]),
    ("[limits]\nidle_exit = \"0s\"", 2, &["limits.idle_exit = \"0s\"", "out of range", "\"10m\""]),
    ("[limits]\nheader_time = \"0s\"", 2, &["limits.header_time = \"0s\"", "out of range", "10s"]),
    ("[limits]\nidle_time = \"soon\"", 2, &["limits.idle_time = \"soon\"", "a time from"]),
    ("[limits]\nbody_stall_time = 30", 2, &["limits.body_stall_time = 30", "integer"]),
    ("[limits]\nmax_header_size = 10", 2, &["limits.max_header_size = 10", "1KB to 1MB"]),
    (
        "[limits]\nmax_connections_per_address = 0",
        2,
        &["max_connections_per_address = 0", "from 1 to"],
    ),
    ("[listen]\nhttp = \"here\"", 2, &["listen.http = \"here\"", "0.0.0.0:4437"]),
    ("[listen]\nhttp = 65536", 2, &["listen.http = 65536", "65535"]),
    ("[listen]\nhttp = true", 2, &["listen.http = true", "boolean"]),
    ("[http]\nallowed_hosts = \"localhost\"", 2, &["http.allowed_hosts", "a list of names"]),
    ("[http]\nallowed_origins = [1]", 2, &["http.allowed_origins", "integer"]),
    ("[listen]\n[listen]", 2, &["duplicate"]),
    ("[listen\nsocket = 1", 1, &["`]`"]),
];

#[test]
fn a_mistake_is_reported_with_its_line_its_key_and_the_allowed_values() {
    for (toml, line, words) in MISTAKES {
        let message = error(toml);
        let place = format!("pfsd.toml:{line}: ");
        assert!(message.starts_with(&place), "{toml:?} should be {place}, got {message}");
        for word in *words {
            assert!(message.contains(word), "{toml:?} should say {word:?}, got {message}");
        }
    }
}

#[test]
fn a_directory_and_a_missing_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Config::read(folder.path(), None).unwrap_err();
    assert!(matches!(directory, ConfigError::Directory { .. }), "{directory}");
    assert!(directory.to_string().contains("is a directory"), "{directory}");
    let missing = Config::read(&folder.path().join("none.toml"), None).unwrap_err();
    assert!(matches!(missing, ConfigError::Unreadable { .. }), "{missing}");
    assert!(missing.to_string().contains("none.toml"), "{missing}");
}

#[cfg(feature = "remote")]
#[test]
fn a_remote_mount_needs_a_path_of_its_own_and_urls_of_one_mount() {
    let config = Config::from_toml(
        r#"
        [mounts.edge]
        path = "/edge"
        url = ["http://one:4437/cams", "https://two/cams"]
        keep = "always"
        [mounts.far]
        path = "/far"
        url = "far"
        read_only = true
        "#,
        "pfsd.toml",
        None,
    )
    .unwrap();
    let paths: Vec<_> = config.remotes.iter().map(Remote::path).collect();
    assert_eq!(paths, ["/edge", "/far"]);
    for (toml, part) in [
        ("[mounts.a]\npath = \"/a\"\n", "mounts.a needs mounts.a.path and mounts.a.url"),
        ("[mounts.a]\npath = \"/streamfs\"\nurl = \"x\"\n", "two mounts have the path /streamfs"),
        ("[mounts.a]\npath = \"/a\"\nurl = []\n", "the list is empty"),
        ("[mounts.a]\npath = \"/a\"\nurl = \"ftp://x/y\"\n", "must start with http:// or https://"),
        (
            "[mounts.a]\npath = \"/a\"\nurl = [\"x/one\", \"y/two\"]\n",
            "must end with the same mount",
        ),
        ("[mounts.a]\npath = \"/a/b\"\nurl = \"x\"\n", "more than one segment"),
        ("[mounts.a]\npath = \"/a\"\nurl = \"x\"\nkeep = \"0s\"\n", "out of range"),
        ("[mounts.a]\npath = \"/a\"\nurl = \"x\"\nread_only = 1\n", "true or false"),
        ("[mounts.a]\nroad = \"/a\"\n", "unknown key"),
    ] {
        assert!(error(toml).contains(part), "{}", error(toml));
    }
    assert!(parse_mount("/edge").is_err() && parse_mount("edge=x").is_err());
    assert_eq!(parse_mount("/edge=host:1/x").unwrap().path(), "/edge");
}
