//! What all connections share: the streams, the limits and what the daemon tells of itself.

use std::{
    process,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pfs_proto::{CreateOptions, DaemonInfo, ErrorCode, PathPrefix, StreamPath};
use pfs_stream::{CreateError, Registry, Reservation, Stream, StreamConfig, Totals};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    client::Client,
    failure::Failure,
    lender::Lender,
    namespace::Namespace,
    settings::{MountSettings, Settings},
};

/// How long a client may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest media type, in bytes.
const MAX_CONTENT_TYPE: usize = 255;

/// A daemon without its socket: streams in memory, within limits.
#[derive(Debug)]
pub struct Daemon {
    /// Which paths are streams, documents or neither.
    pub namespace: Namespace,
    pub(crate) registry: Registry,
    pub(crate) hello_timeout: Duration,
    /// Rung when a stream was made that has a time to live or a deadline.
    pub(crate) mortal: Notify,
    /// The buffers of what is sent to readers.
    pub(crate) lender: Lender,
    connections: Arc<Semaphore>,
    max_connections: usize,
    started: SystemTime,
}

impl Daemon {
    /// A daemon without streams.
    pub fn new(settings: &Settings) -> Self {
        let max_connections = settings.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            namespace: Namespace::new(settings.mounts.clone()),
            registry: Registry::new(settings.limits),
            hello_timeout: HELLO_TIMEOUT,
            mortal: Notify::new(),
            lender: Lender::default(),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            started: SystemTime::now(),
        }
    }

    /// Gives clients another time to say hello than five seconds.
    #[must_use]
    pub fn with_hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = timeout;
        self
    }

    /// The streams, for programs that have a daemon within themselves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A place among the connections, given back when dropped; `None` if all are taken.
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// When it was made.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Connections that there may be at a time.
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// What the daemon tells of itself.
    pub fn info(&self) -> DaemonInfo {
        let limits = self.registry.limits();
        let open = self.max_connections.saturating_sub(self.connections.available_permits());
        DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started,
            mounts: self.namespace.mounts().map(str::to_owned).collect(),
            streams: wide(self.registry.len()),
            max_streams: wide(limits.max_streams),
            memory: self.registry.memory(),
            max_memory: limits.max_memory,
            connections: wide(open),
            max_connections: wide(self.max_connections),
        }
    }

    /// Makes a stream as its creator wants it.
    ///
    /// # Errors
    ///
    /// The path is no stream's or taken, an option is bad, or a limit is reached.
    pub fn create(
        &self,
        client: &Client,
        path: &StreamPath,
        options: CreateOptions,
    ) -> Result<Stream, Failure> {
        self.create_with(client, path, options, None, |_| ())
    }

    /// Makes a stream as its creator wants it, until a deadline if there is one. Nobody else can append to it before
    /// `begin` has been called with it.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_with(
        &self,
        client: &Client,
        path: &StreamPath,
        options: CreateOptions,
        deadline: Option<SystemTime>,
        begin: impl FnOnce(&Stream),
    ) -> Result<Stream, Failure> {
        let mount = self.namespace.stream(path)?;
        let config = stream_config(mount, options).map_err(|reason| {
            Failure::new(ErrorCode::BadOption, format!("cannot create {path}: {reason}"))
        })?;
        let config = StreamConfig { deadline, ..config };
        self.make(client, path, config, begin).map_err(|error| Failure::creating(path, &error))
    }

    /// The stream of a path, made with the mount's sizes if there is none.
    ///
    /// # Errors
    ///
    /// The path is no stream's, or a limit is reached.
    pub fn open_or_create(&self, client: &Client, path: &StreamPath) -> Result<Stream, Failure> {
        let mount = self.namespace.stream(path)?;
        loop {
            if let Some(stream) = self.get(path) {
                return Ok(stream);
            }
            match self.make(client, path, mount.stream_config(), |_| ()) {
                Ok(stream) => return Ok(stream),
                // Somebody else made it just now.
                Err(CreateError::Exists) => {}
                Err(error) => return Err(Failure::creating(path, &error)),
            }
        }
    }

    /// The stream of a path, if there is one and its time is not over.
    pub fn get(&self, path: &StreamPath) -> Option<Stream> {
        let stream = self.registry.get(path.as_str())?;
        let now = SystemTime::now();
        if stream.expires().is_none_or(|expiry| expiry > now) {
            return Some(stream);
        }
        // The task that does this regularly has not come to it yet.
        self.expire(now);
        None
    }

    /// The stream of a path, where there must be one.
    ///
    /// # Errors
    ///
    /// The path is no stream's, or there is none.
    pub fn existing(&self, path: &StreamPath) -> Result<Stream, Failure> {
        self.namespace.stream(path)?;
        self.get(path).ok_or_else(|| Failure::no_such_stream(path.as_str()))
    }

    /// The streams at a path and below it, sorted by path.
    pub fn below(&self, prefix: &PathPrefix) -> impl Iterator<Item = Stream> {
        self.registry.list().into_iter().filter(move |stream| prefix.contains(stream.name()))
    }

    /// Closes a stream, for a client that is no writer of it.
    pub fn close(&self, client: &Client, stream: &Stream) {
        stream.close();
        let path = stream.name();
        client.log(|pid, uid| tracing::info!(stream = path, pid, uid, "stream closed"));
    }

    /// Removes a stream.
    ///
    /// # Errors
    ///
    /// The path is no stream's, or there is none.
    pub fn remove(&self, client: &Client, path: &StreamPath) -> Result<(), Failure> {
        self.existing(path)?;
        if !self.registry.remove(path.as_str()) {
            return Err(Failure::no_such_stream(path.as_str()));
        }
        client.log(|pid, uid| tracing::info!(stream = path.as_str(), pid, uid, "stream removed"));
        Ok(())
    }

    /// Removes the streams whose time is over.
    pub(crate) fn expire(&self, now: SystemTime) {
        for stream in self.registry.expire(now) {
            tracing::info!(stream, "stream expired");
        }
    }

    /// Takes memory for what is on its way to a stream: an eighth of what streams may take, beside it. `None` if there is not
    /// so much left.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.registry.reserve(bytes)
    }

    /// What all streams did since the daemon began, and who is attached to them.
    pub fn totals(&self) -> Totals {
        self.registry.totals()
    }

    fn make(
        &self,
        client: &Client,
        path: &StreamPath,
        config: StreamConfig,
        begin: impl FnOnce(&Stream),
    ) -> Result<Stream, CreateError> {
        let StreamConfig { ring_buffer_size, channel_buffer_size, ttl, deadline, .. } = config;
        let config = StreamConfig { owner: client.peer, ..config };
        let stream = self.registry.create_with(path.as_str(), config, begin)?;
        let ttl_seconds = ttl.map(|ttl| ttl.as_secs_f64());
        client.log(|pid, uid| {
            let stream = path.as_str();
            tracing::info!(
                stream,
                pid,
                uid,
                ring_buffer_size,
                channel_buffer_size,
                ttl_seconds,
                "stream created"
            );
        });
        if ttl.is_some() || deadline.is_some() {
            self.mortal.notify_one();
        }
        Ok(stream)
    }
}

fn stream_config(mount: &MountSettings, options: CreateOptions) -> Result<StreamConfig, String> {
    let CreateOptions { ring_buffer_size, channel_buffer_size, ttl, content_type } = options;
    if ttl == Some(Duration::ZERO) {
        return Err("a time to live of zero would remove it at once".to_owned());
    }
    if let Some(content_type) = &content_type {
        let len = content_type.len();
        if !(1..=MAX_CONTENT_TYPE).contains(&len) || content_type.chars().any(char::is_control) {
            return Err(format!(
                "a content type has 1 to {MAX_CONTENT_TYPE} bytes and no control characters, such as video/mp2t"
            ));
        }
    }
    let default = mount.stream_config();
    Ok(StreamConfig {
        ring_buffer_size: ring_buffer_size.unwrap_or(default.ring_buffer_size),
        channel_buffer_size: channel_buffer_size.unwrap_or(default.channel_buffer_size),
        ttl,
        deadline: None,
        content_type,
        ..default
    })
}

/// A count as the wire has it.
pub fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
