//! What a host serves, and within which limits.

use std::time::Duration;

use pfs_stream::{DEFAULT_BUFFER_SIZE, Limits, StreamConfig};

/// A tree of streams, all made alike unless their creator says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// Its path, such as `/streamfs`.
    pub path: String,
    /// How much history a new reader gets, in bytes.
    pub ring_buffer_size: u64,
    /// How far a live reader may lag, in bytes.
    pub channel_buffer_size: u64,
}

impl MountSettings {
    /// How its streams are made when their creator says nothing else.
    pub fn stream_config(&self) -> StreamConfig {
        StreamConfig {
            ring_buffer_size: self.ring_buffer_size,
            channel_buffer_size: self.channel_buffer_size,
            ..StreamConfig::default()
        }
    }
}

/// What a host serves, and what all its clients may take together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trees of streams that it serves.
    pub mounts: Vec<MountSettings>,
    /// What all streams may take together.
    pub limits: Limits,
    /// What the streams may take together that one user has created.
    pub user_quota: Limits,
    /// What the streams may take together that were created with one token.
    pub token_quota: Limits,
    /// Connections at a time.
    pub max_connections: usize,
    /// How long a `block` reader may keep a writer waiting before it becomes a `drop` reader;
    /// `None` sets no limit.
    pub max_block_time: Option<Duration>,
    /// How long a stream may be idle, not closed and without readers and writers, before it is
    /// removed; `None`: for ever. Streams with a time to live or a deadline keep to that.
    pub idle_ttl: Option<Duration>,
    /// Time without streams and connections after which the daemon ends; `None`: it never ends by
    /// itself.
    pub idle_exit: Option<Duration>,
    /// Descriptors that streams may occupy: one for each stream whose memory clients on this
    /// machine can share. Further streams are served over connections alone.
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
