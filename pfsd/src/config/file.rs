//! Schema of the configuration file, table by table. Parsing checks only the names of tables and
//! keys; `values.rs` validates the values.

#[cfg(feature = "remote")]
use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// A value with its position in the file.
pub(super) type Given = Option<Spanned<Value>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct File {
    pub(super) plugins: Plugins,
    pub(super) listen: Listen,
    pub(super) http: Http,
    pub(super) auth: Auth,
    pub(super) limits: LimitsTable,
    #[cfg(feature = "remote")]
    pub(super) mounts: BTreeMap<Spanned<String>, MountTable>,
}

#[cfg(feature = "remote")]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct MountTable {
    pub(super) path: Given,
    pub(super) url: Given,
    pub(super) token_file: Given,
    pub(super) ca_file: Given,
    pub(super) client_cert_file: Given,
    pub(super) keep: Given,
    pub(super) read_only: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Plugins {
    pub(super) streamfs: StreamFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct StreamFs {
    pub(super) enabled: Given,
    pub(super) path: Given,
    pub(super) config: StreamFsConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct StreamFsConfig {
    pub(super) channel_buffer_size: Given,
    pub(super) ring_buffer_size: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Listen {
    pub(super) socket: Given,
    pub(super) socket_mode: Given,
    pub(super) shm: Given,
    pub(super) http: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Http {
    pub(super) allowed_hosts: Given,
    pub(super) allowed_origins: Given,
    pub(super) certificate: Given,
    pub(super) key: Given,
    pub(super) client_ca: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Auth {
    pub(super) token_file: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct LimitsTable {
    pub(super) max_streams: Given,
    pub(super) max_memory: Given,
    pub(super) max_streams_per_user: Given,
    pub(super) max_memory_per_user: Given,
    pub(super) max_streams_per_token: Given,
    pub(super) max_memory_per_token: Given,
    pub(super) max_connections: Given,
    pub(super) max_block_time: Given,
    pub(super) idle_ttl: Given,
    pub(super) idle_exit: Given,
    pub(super) max_connections_per_address: Given,
    pub(super) max_header_size: Given,
    pub(super) header_time: Given,
    pub(super) idle_time: Given,
    pub(super) body_stall_time: Given,
    pub(super) long_poll_time: Given,
}
