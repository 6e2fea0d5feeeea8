//! The daemon's configuration: StreamFS's own tables, to the letter, then ours.

mod error;
mod file;
mod http;
#[cfg(test)]
mod tests;
mod values;

use std::{
    io,
    path::{Path, PathBuf},
};

use pfs_stream::{CreateError, DEFAULT_BUFFER_SIZE, Limits, Registry, StreamConfig};

pub(crate) use self::http::usual_port;
use self::{error::Mistake, file::File};
pub use self::{
    error::{ConfigError, Invalid},
    http::{Host, HttpConfig, HttpLimits, Origin, TlsFiles},
};

/// A tree of streams, all made alike unless their creator says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its path, such as `/streamfs`.
    pub path: String,
    /// How much history a new reader gets, in bytes.
    pub ring_buffer_size: u64,
    /// How far a live reader may lag, in bytes.
    pub channel_buffer_size: u64,
}

impl Mount {
    /// How its streams are made when their creator says nothing else.
    pub(crate) fn stream_config(&self) -> StreamConfig {
        StreamConfig {
            ring_buffer_size: self.ring_buffer_size,
            channel_buffer_size: self.channel_buffer_size,
            ..StreamConfig::default()
        }
    }
}

/// All that the daemon can be told by a file. [`Default`] is what it does without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The trees of streams that it serves.
    pub mounts: Vec<Mount>,
    /// Where it listens; `None` is the default place.
    pub socket: Option<PathBuf>,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// Where and how it serves HTTP.
    pub http: HttpConfig,
    /// What all streams may take together.
    pub limits: Limits,
    /// Connections at a time.
    pub max_connections: usize,
    /// What is allowed, but does not do what one might think.
    pub notes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mounts: vec![Mount {
                path: "/streamfs".to_owned(),
                ring_buffer_size: DEFAULT_BUFFER_SIZE,
                channel_buffer_size: DEFAULT_BUFFER_SIZE,
            }],
            socket: None,
            socket_mode: 0o600,
            http: HttpConfig::default(),
            limits: Limits { max_streams: 1024, max_memory: 1 << 30 },
            max_connections: 16384,
            notes: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration from a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names file, line, key and what is allowed.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let toml = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::IsADirectory => ConfigError::Directory { path: path.to_owned() },
            _ => ConfigError::Unreadable { path: path.to_owned(), source },
        })?;
        Self::from_toml(&toml, &path.display().to_string())
    }

    /// Reads a configuration from its text; `file` is the name that messages use.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`].
    pub fn from_toml(toml: &str, file: &str) -> Result<Self, ConfigError> {
        let parsed = toml::from_str::<File>(toml).map_err(|error| Mistake::from_toml(&error));
        parsed.and_then(|parsed| Self::from_file(&parsed)).map_err(|mistake| mistake.locate(file, toml))
    }

    fn from_file(file: &File) -> Result<Self, Mistake> {
        let mut config = Self::default();
        let Limits { max_streams, max_memory } = config.limits;
        config.limits = Limits {
            max_streams: values::count("limits.max_streams", &file.limits.max_streams)?
                .map_or(max_streams, saturating_usize),
            max_memory: values::size("limits.max_memory", &file.limits.max_memory)?.unwrap_or(max_memory),
        };
        if let Some(count) = values::count("limits.max_connections", &file.limits.max_connections)? {
            config.max_connections = saturating_usize(count);
        }

        config.socket = values::absolute_path("listen.socket", &file.listen.socket)?;
        if let Some(mode) = values::mode("listen.socket_mode", &file.listen.socket_mode)? {
            config.socket_mode = mode;
        }

        config.read_mounts(file)?;
        config.http.read(file, config.max_connections)?;
        Ok(config)
    }

    fn read_mounts(&mut self, file: &File) -> Result<(), Mistake> {
        let table = &file.plugins.streamfs;
        let (ring, channel) = (&table.config.ring_buffer_size, &table.config.channel_buffer_size);
        for mount in &mut self.mounts {
            if let Some(path) = values::mount("plugins.streamfs.path", &table.path)? {
                mount.path = path;
            }
            let key = "plugins.streamfs.config.ring_buffer_size";
            mount.ring_buffer_size = values::size(key, ring)?.unwrap_or(mount.ring_buffer_size);
            let key = "plugins.streamfs.config.channel_buffer_size";
            mount.channel_buffer_size = values::size(key, channel)?.unwrap_or(mount.channel_buffer_size);

            // Only the engine knows what a stream takes, so one is made. Its pages are not touched, and a system that
            // has no room just now is no mistake in the file.
            let made = Registry::new(self.limits).create("", mount.stream_config());
            if let Err(error @ (CreateError::TooMuchMemory { .. } | CreateError::BadSize { .. })) = made {
                // The buffers may have their default sizes: then the limit is what was set too low.
                let larger = if mount.channel_buffer_size > mount.ring_buffer_size { channel } else { ring };
                let blamed = [larger, ring, channel, &file.limits.max_memory];
                let at = blamed.into_iter().flatten().next().map(toml::Spanned::span);
                let reason = format!(
                    "no stream could be made with plugins.streamfs.config.ring_buffer_size = {}, channel_buffer_size \
                     = {} and limits.max_memory = {}: {error}",
                    mount.ring_buffer_size, mount.channel_buffer_size, self.limits.max_memory
                );
                return Err(Mistake { at, reason });
            }
        }
        if values::boolean("plugins.streamfs.enabled", &table.enabled)? == Some(false) {
            self.mounts.clear();
            self.notes.push("plugins.streamfs.enabled is false: no stream can be created".to_owned());
        }
        Ok(())
    }
}

fn saturating_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
