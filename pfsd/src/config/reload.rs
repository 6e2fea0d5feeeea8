//! Reload rules: which settings of a new configuration the running daemon takes over, and which
//! wait for the next start.

use std::time::Duration;

use pfs_host::{MountSettings, Settings};
use pfs_stream::Limits;

use super::Config;

/// A key of the file, and a function that formats its value for comparison and display.
type Key = (&'static str, fn(&Config) -> String);

/// Keys that a reload takes over, in addition to tokens and certificates.
const LIMITS: [Key; 16] = [
    ("limits.max_streams", |config| config.host.limits.max_streams.to_string()),
    ("limits.max_memory", |config| format!("{} bytes", config.host.limits.max_memory)),
    ("limits.max_streams_per_user", |config| count(config.host.user_quota.max_streams)),
    ("limits.max_memory_per_user", |config| bytes(config.host.user_quota.max_memory)),
    ("limits.max_streams_per_token", |config| count(config.host.token_quota.max_streams)),
    ("limits.max_memory_per_token", |config| bytes(config.host.token_quota.max_memory)),
    ("limits.max_connections", |config| config.host.max_connections.to_string()),
    ("limits.max_connections_per_address", |config| {
        config.http.limits.max_connections_per_address.to_string()
    }),
    ("limits.max_block_time", |config| {
        config.host.max_block_time.map_or_else(|| "off".to_owned(), time)
    }),
    ("limits.idle_ttl", |config| config.host.idle_ttl.map_or_else(|| "off".to_owned(), time)),
    ("limits.idle_exit", |config| config.host.idle_exit.map_or_else(|| "never".to_owned(), time)),
    ("limits.max_header_size", |config| format!("{} bytes", config.http.limits.max_header_size)),
    ("limits.header_time", |config| time(config.http.limits.header_time)),
    ("limits.idle_time", |config| time(config.http.limits.idle_time)),
    ("limits.body_stall_time", |config| time(config.http.limits.body_stall_time)),
    ("limits.long_poll_time", |config| time(config.http.limits.long_poll_time)),
];

/// Keys that take effect at the next start.
const AT_START: [Key; 12] = [
    ("mounts", |config| remotes(config)),
    ("plugins.streamfs.enabled", |config| (!config.host.mounts.is_empty()).to_string()),
    ("plugins.streamfs.path", |config| mounts(config, |mount| mount.path.clone())),
    ("plugins.streamfs.config.channel_buffer_size", |config| {
        mounts(config, |mount| mount.channel_buffer_size.to_string())
    }),
    ("plugins.streamfs.config.ring_buffer_size", |config| {
        mounts(config, |mount| mount.ring_buffer_size.to_string())
    }),
    ("listen.socket", |config| format!("{:?}", config.socket)),
    ("listen.socket_mode", |config| config.socket_mode.to_string()),
    ("listen.shm", |config| format!("{:?}", config.shm)),
    ("listen.http", |config| format!("{:?}", config.http.address)),
    ("http.allowed_hosts", |config| format!("{:?}", config.http.allowed_hosts)),
    ("http.allowed_origins", |config| format!("{:?}", config.http.allowed_origins)),
    ("http.certificate", |config| config.http.tls.is_some().to_string()),
];

#[cfg(feature = "remote")]
fn remotes(config: &Config) -> String {
    format!("{:?}", config.remotes)
}

#[cfg(not(feature = "remote"))]
fn remotes(_: &Config) -> String {
    String::new()
}

fn mounts(config: &Config, value: impl Fn(&MountSettings) -> String) -> String {
    config.host.mounts.iter().map(value).collect()
}

/// Formats the stream limit of a quota.
fn count(streams: usize) -> String {
    if streams == Limits::UNLIMITED.max_streams { "off".to_owned() } else { streams.to_string() }
}

/// Formats the memory limit of a quota.
fn bytes(memory: u64) -> String {
    if memory == Limits::UNLIMITED.max_memory {
        "off".to_owned()
    } else {
        format!("{memory} bytes")
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// The effect of a reload on the running configuration.
#[derive(Debug)]
pub(crate) struct Reload {
    /// The new settings that a reload takes over, and the running ones for the rest.
    pub(crate) config: Config,
    /// The changed limits, with old and new values.
    pub(crate) changes: Vec<String>,
    /// The keys whose new value waits for the next start.
    pub(crate) waiting: Vec<&'static str>,
}

impl Config {
    /// Computes the effect of reloading `new` on this configuration, which is the running one.
    pub(crate) fn reload(&self, new: Self) -> Reload {
        let differ = |key: &Key| (key.1(self), key.1(&new));
        let changes = LIMITS.iter().filter_map(|key| {
            let (before, after) = differ(key);
            (before != after).then(|| format!("{} from {before} to {after}", key.0))
        });
        let changes = changes.collect();
        let waiting = AT_START.iter().filter(|key| {
            let (before, after) = differ(key);
            before != after
        });
        let waiting = waiting.map(|key| key.0).collect();
        let running = self.clone();
        let tls = match (running.http.tls, new.http.tls) {
            (Some(_), Some(new)) => Some(new),
            // TLS cannot be turned on or off by a reload.
            (running, _) => running,
        };
        let http = pfs_http::settings::Settings {
            tls,
            token_file: new.http.token_file,
            limits: new.http.limits,
            ..running.http
        };
        let host = Settings { mounts: running.host.mounts, ..new.host };
        let config = Self {
            host,
            http,
            idle_exit: new.idle_exit,
            notes: new.notes,
            derived: new.derived,
            ..running
        };
        Reload { config, changes, waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        Config::from_toml(toml, "pfsd.toml", None).unwrap()
    }

    #[test]
    fn every_limit_is_reloaded_and_shown_with_its_old_and_new_value() {
        let new = config(
            "[limits]\nmax_streams = 5\nmax_memory = \"64MB\"\nmax_connections = 100\nmax_connections_per_address = 10\n\
             max_block_time = \"90s\"\nmax_header_size = \"8KB\"\nheader_time = \"5s\"\nidle_time = \"2m\"\n\
             body_stall_time = \"500ms\"\nlong_poll_time = \"3s\"\nmax_streams_per_user = 2\nmax_memory_per_user = \"32MB\"\n\
             max_streams_per_token = 3\nmax_memory_per_token = \"16MB\"\nidle_exit = \"5m\"\n\
             idle_ttl = \"30days\"\n",
        );
        let new =
            Config { host: Settings { idle_exit: new.idle_exit.time(false), ..new.host }, ..new };
        let Reload { config: all, changes, waiting } = Config::default().reload(new.clone());
        assert_eq!((all, waiting), (new.clone(), vec![]));
        assert_eq!(
            changes,
            [
                "limits.max_streams from 1000000 to 5",
                "limits.max_memory from 1073741824 bytes to 67108864 bytes",
                "limits.max_streams_per_user from off to 2",
                "limits.max_memory_per_user from off to 33554432 bytes",
                "limits.max_streams_per_token from off to 3",
                "limits.max_memory_per_token from off to 16777216 bytes",
                "limits.max_connections from 16384 to 100",
                "limits.max_connections_per_address from 8192 to 10",
                "limits.max_block_time from off to 1m 30s",
                "limits.idle_ttl from off to 30days",
                "limits.idle_exit from never to 5m",
                "limits.max_header_size from 32768 bytes to 8192 bytes",
                "limits.header_time from 10s to 5s",
                "limits.idle_time from 1m to 2m",
                "limits.body_stall_time from 30s to 500ms",
                "limits.long_poll_time from 20s to 3s",
            ]
        );
        let Reload { config: same, changes, waiting } = new.reload(new.clone());
        assert_eq!((same, changes.len(), waiting.len()), (new, 0, 0));
    }

    #[test]
    fn token_and_certificate_files_are_reloaded_but_tls_stays_on_or_off() {
        let tls = |name: &str| {
            config(&format!("[http]\ncertificate = \"/{name}\"\nkey = \"/{name}.key\"\n"))
        };
        let plain = config("[auth]\ntoken_file = \"/token\"\n");
        let Reload { config: renewed, waiting, .. } = tls("old").reload(tls("new"));
        assert_eq!((renewed, waiting.len()), (tls("new"), 0));
        let Reload { config: kept, waiting, .. } = tls("old").reload(plain.clone());
        assert_eq!(kept.http.tls, tls("old").http.tls);
        assert_eq!(
            (kept.http.token_file, waiting),
            (plain.http.token_file.clone(), vec!["http.certificate"])
        );
        let Reload { config: kept, waiting, .. } = plain.reload(tls("new"));
        assert_eq!(
            (kept.http.tls, kept.http.token_file, waiting),
            (None, None, vec!["http.certificate"])
        );
    }

    #[test]
    fn keys_that_wait_for_the_next_start_are_named_and_change_nothing() {
        let running = Config::default();
        for (toml, keys) in [
            ("[plugins.streamfs]\npath = \"/live\"", &["plugins.streamfs.path"][..]),
            (
                "[plugins.streamfs.config]\nring_buffer_size = 1",
                &["plugins.streamfs.config.ring_buffer_size"],
            ),
            (
                "[plugins.streamfs.config]\nchannel_buffer_size = 1",
                &["plugins.streamfs.config.channel_buffer_size"],
            ),
            ("[listen]\nsocket = \"/s\"", &["listen.socket"]),
            ("[listen]\nsocket_mode = \"0660\"", &["listen.socket_mode"]),
            ("[listen]\nshm = \"all\"", &["listen.shm"]),
            ("[listen]\nhttp = \"127.0.0.1:1\"", &["listen.http"]),
            ("[http]\nallowed_hosts = [\"a\"]", &["http.allowed_hosts"]),
            ("[http]\nallowed_origins = [\"http://a\"]", &["http.allowed_origins"]),
        ] {
            let Reload { config: kept, changes, waiting } = running.reload(config(toml));
            assert_eq!((kept, changes.len(), &*waiting), (running.clone(), 0, keys), "{toml}");
        }
        let disabled = config("[plugins.streamfs]\nenabled = false");
        let Reload { config: kept, waiting, .. } = running.reload(disabled);
        assert_eq!(
            (kept.host.mounts, waiting.first()),
            (running.host.mounts, Some(&"plugins.streamfs.enabled"))
        );
    }
}
