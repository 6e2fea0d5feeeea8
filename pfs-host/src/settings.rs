//! Settings of a daemon: mounts, limits and quotas.

use std::time::Duration;

use pfs_stream::{DEFAULT_BUFFER_SIZE, Limits, StreamConfig};

/// A mount, and the defaults of its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// The mount's path, such as `/streamfs`.
    pub path: String,
    /// How much history a new reader gets, in bytes.
    pub ring_buffer_size: u64,
    /// How far a live reader may lag, in bytes.
    pub channel_buffer_size: u64,
}

impl MountSettings {
    /// Default configuration of streams. The creator's options override it.
    pub fn stream_config(&self) -> StreamConfig {
        StreamConfig {
            ring_buffer_size: self.ring_buffer_size,
            channel_buffer_size: self.channel_buffer_size,
            ..StreamConfig::default()
        }
    }
}

/// Mounts, and the limits that all clients share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mounts.
    pub mounts: Vec<MountSettings>,
    /// Limits for all streams together.
    pub limits: Limits,
    /// Limits for the streams that one user has created.
    pub user_quota: Limits,
    /// Limits for the streams that were created with one token.
    pub token_quota: Limits,
    /// Limit on simultaneous connections.
    pub max_connections: usize,
    /// How long a `block` reader may keep a writer waiting before it becomes a `drop` reader.
    /// `None` sets no limit.
    pub max_block_time: Option<Duration>,
    /// Time after which an idle stream is removed: a stream that is not closed and has no readers
    /// and writers. `None` keeps idle streams. Streams with a time to live or a deadline ignore
    /// this setting.
    pub idle_ttl: Option<Duration>,
    /// Time without streams and connections after which the daemon ends. `None` disables idle exit.
    pub idle_exit: Option<Duration>,
    /// Limit on the descriptors of streams. A stream needs one descriptor to share its memory with
    /// local clients. Streams beyond the limit are served only over connections.
    pub max_stream_descriptors: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mounts: vec![MountSettings {
                path: "/streamfs".to_owned(),
                ring_buffer_size: DEFAULT_BUFFER_SIZE,
                channel_buffer_size: DEFAULT_BUFFER_SIZE,
            }],
            limits: Limits::default(),
            user_quota: Limits::UNLIMITED,
            token_quota: Limits::UNLIMITED,
            max_connections: 16384,
            max_block_time: None,
            idle_ttl: None,
            idle_exit: None,
            max_stream_descriptors: u64::MAX,
        }
    }
}
