//! Configuration file: the tables of StreamFS unchanged, followed by those of pfsd.

mod error;
mod file;
mod http;
#[cfg(feature = "remote")]
mod mounts;
mod quotas;
mod reload;
#[cfg(test)]
mod tests;
mod values;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use pfs_host::Settings;
use pfs_stream::CreateError;

pub use self::error::{ConfigError, Invalid};
#[cfg(feature = "remote")]
pub use self::mounts::Remote;
#[cfg(feature = "remote")]
pub(crate) use self::mounts::{check as check_mounts, parse as parse_mount};
pub(crate) use self::reload::Reload;
use self::{error::Mistake, file::File};

/// The daemon's configuration. [`Default`] is the configuration without a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The streams that the daemon serves, and their limits.
    pub host: Settings,
    /// The Unix socket to listen on; `None` selects the default place.
    pub socket: Option<PathBuf>,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// Which clients of the Unix socket share memory with the daemon.
    pub shm: Shm,
    /// Mounts of other daemons' streams.
    #[cfg(feature = "remote")]
    pub remotes: Vec<Remote>,
    /// HTTP address and settings.
    pub http: pfs_http::settings::Settings,
    /// When the daemon ends by itself. [`Settings::idle_exit`] is derived from this at the start.
    pub idle_exit: IdleExit,
    /// Warnings about settings that are allowed but may surprise.
    pub notes: Vec<String>,
    /// Messages about defaults that were derived from the machine.
    pub derived: Vec<String>,
}

/// Which clients of the Unix socket share memory with the daemon. The others are served over
/// the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shm {
    /// Only clients of the daemon's own user.
    #[default]
    SameUser,
    /// All clients, for machines whose users trust each other. A client that reads a stream's
    /// memory can delay the wake-ups of other readers of that stream, and see when they sleep.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: Settings::default(),
            socket: None,
            socket_mode: 0o600,
            shm: Shm::default(),
            #[cfg(feature = "remote")]
            remotes: Vec::new(),
            http: pfs_http::settings::Settings::default(),
            idle_exit: IdleExit::default(),
            notes: Vec::new(),
            derived: Vec::new(),
        }
    }
}

/// Idle exit: how long a daemon without streams and clients waits before it ends by itself
/// (`limits.idle_exit`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdleExit {
    /// The key is not set: a daemon started by `pfs` ends after ten minutes, any other
    /// daemon never.
    #[default]
    Unset,
    /// The daemon never ends by itself.
    Never,
    /// The daemon ends after this time, no matter how it was started.
    After(Duration),
}

impl IdleExit {
    const AUTOSTARTED: Duration = Duration::from_mins(10);

    /// Returns the idle time after which a daemon ends. `autostarted` is true if `pfs` started
    /// the daemon.
    pub(crate) fn time(self, autostarted: bool) -> Option<Duration> {
        match self {
            Self::Unset => autostarted.then_some(Self::AUTOSTARTED),
            Self::Never => None,
            Self::After(time) => Some(time),
        }
    }
}

impl Config {
    /// Reads a configuration from a file. For `memory_limit` see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the file, the line, the key and the allowed values.
    pub fn read(path: &Path, memory_limit: Option<u64>) -> Result<Self, ConfigError> {
        let toml = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => ConfigError::Directory { path: path.to_owned() },
            _ => ConfigError::Unreadable { path: path.to_owned(), error },
        })?;
        Self::from_toml(&toml, &path.display().to_string(), memory_limit)
    }

    /// Parses a configuration from its text; `file` is the name that messages use. `memory_limit`
    /// is the number of bytes that the system lets this process use; the default of
    /// `limits.max_memory` is at most half of it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`].
    pub fn from_toml(
        toml: &str,
        file: &str,
        memory_limit: Option<u64>,
    ) -> Result<Self, ConfigError> {
        let parsed = toml::from_str::<File>(toml).map_err(|error| Mistake::from_toml(&error));
        let config = parsed.and_then(|parsed| Self::from_file(&parsed, memory_limit));
        config.map_err(|mistake| mistake.locate(file, toml))
    }

    fn from_file(file: &File, memory_limit: Option<u64>) -> Result<Self, Mistake> {
        let mut config = Self::default();
        let max_streams = values::count("limits.max_streams", &file.limits.max_streams)?;
        let max_memory = values::size("limits.max_memory", &file.limits.max_memory)?;
        config.host.limits.max_streams =
            max_streams.map_or(config.host.limits.max_streams, saturating_usize);
        config.set_max_memory(max_memory, memory_limit);
        if let Some(count) = values::count("limits.max_connections", &file.limits.max_connections)?
        {
            config.host.max_connections = saturating_usize(count);
        }

        config.host.max_block_time =
            values::duration("limits.max_block_time", &file.limits.max_block_time)?;
        config.host.idle_ttl = values::lifetime("limits.idle_ttl", &file.limits.idle_ttl)?;
        config.idle_exit =
            values::idle_exit("limits.idle_exit", &file.limits.idle_exit)?.unwrap_or_default();

        config.socket = values::absolute_path("listen.socket", &file.listen.socket)?;
        if let Some(mode) = values::mode("listen.socket_mode", &file.listen.socket_mode)? {
            config.socket_mode = mode;
        }
        config.shm = values::shm("listen.shm", &file.listen.shm)?.unwrap_or_default();

        config.read_mounts(file)?;
        #[cfg(feature = "remote")]
        {
            config.remotes = mounts::read(file, &config.local_mounts())?;
        }
        config.http = http::settings(file, config.host.max_connections)?;
        quotas::read(&file.limits, &mut config)?;
        Ok(config)
    }

    /// The paths of the local mounts.
    #[cfg(feature = "remote")]
    pub(crate) fn local_mounts(&self) -> Vec<String> {
        self.host.mounts.iter().map(|mount| mount.path.clone()).collect()
    }

    fn set_max_memory(&mut self, given: Option<u64>, memory_limit: Option<u64>) {
        let max_memory = &mut self.host.limits.max_memory;
        match (given, memory_limit) {
            (Some(given), Some(limit)) if given > limit => self.notes.push(format!(
                "limits.max_memory is {given} bytes, and the control group of this process may use {limit} bytes: the kernel kills \
                 the daemon when streams need more; set limits.max_memory to half of the limit"
            )),
            (None, Some(limit)) if limit / 2 < *max_memory => {
                *max_memory = limit / 2;
                self.derived.push(format!(
                    "limits.max_memory is {max_memory} bytes, half of the memory that the control group of this process may use"
                ));
            }
            _ => {}
        }
        *max_memory = given.unwrap_or(*max_memory);
    }

    fn read_mounts(&mut self, file: &File) -> Result<(), Mistake> {
        let table = &file.plugins.streamfs;
        let (ring, channel) = (&table.config.ring_buffer_size, &table.config.channel_buffer_size);
        for mount in &mut self.host.mounts {
            if let Some(path) = values::mount("plugins.streamfs.path", &table.path)? {
                mount.path = path;
            }
            let key = "plugins.streamfs.config.ring_buffer_size";
            mount.ring_buffer_size = values::size(key, ring)?.unwrap_or(mount.ring_buffer_size);
            let key = "plugins.streamfs.config.channel_buffer_size";
            mount.channel_buffer_size =
                values::size(key, channel)?.unwrap_or(mount.channel_buffer_size);

            let limit = self.host.limits.max_memory;
            let impossible = match mount.stream_config().full_memory("") {
                Ok(needed) if needed > limit => {
                    Some(CreateError::TooMuchMemory { needed, used: 0, limit })
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = impossible {
                // Blame the larger buffer, or else another key that is set. If neither size is set,
                // the limit was set too low.
                let larger =
                    if mount.channel_buffer_size > mount.ring_buffer_size { channel } else { ring };
                let blamed = [larger, ring, channel, &file.limits.max_memory];
                let at = blamed.into_iter().flatten().next().map(toml::Spanned::span);
                let reason = format!(
                    "no stream can grow to plugins.streamfs.config.ring_buffer_size = {} and channel_buffer_size \
                     = {} with limits.max_memory = {}: {error}",
                    mount.ring_buffer_size, mount.channel_buffer_size, self.host.limits.max_memory
                );
                if at.is_some() {
                    return Err(Mistake { at, reason });
                }
                // None of these keys is set, and the machine has little memory. Smaller streams can
                // still be created.
                self.notes.push(reason);
            }
        }
        if values::boolean("plugins.streamfs.enabled", &table.enabled)? == Some(false) {
            self.host.mounts.clear();
            self.notes
                .push("plugins.streamfs.enabled is false: no stream can be created".to_owned());
        }
        Ok(())
    }
}

fn saturating_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
