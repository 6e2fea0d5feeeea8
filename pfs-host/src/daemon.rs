//! What all connections share: the streams, the limits and what the daemon tells of itself.

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use pfs_proto::{DaemonInfo, StreamPath};
use pfs_stream::{Budget, Registry, Totals};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    caller::Caller,
    failure::Failure,
    lender::Lender,
    mount::{Entry, Local},
    namespace::{Namespace, Place},
    settings::{MountSettings, Settings},
    sharing::Handout,
};

/// Divisor of `limits.max_memory`. Messages on their way to streams may take this part of it, beside the streams, and messages
/// on their way to clients another part of that size.
const MESSAGES_SHARE: u64 = 8;

/// How long a client may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon without its socket: streams in memory, within limits.
#[derive(Debug)]
pub struct Daemon {
    /// Which paths are streams, documents or neither.
    pub namespace: Namespace,
    pub(crate) registry: Registry,
    pub(crate) hello_timeout: Duration,
    /// How long a `block` reader may keep a writer waiting.
    pub(crate) max_block_time: Option<Duration>,
    /// Rung when a stream was made that has a time to live or a deadline.
    pub(crate) mortal: Notify,
    /// The buffers of what is sent to readers.
    pub(crate) lender: Lender,
    arriving: Budget,
    leaving: Budget,
    connections: Arc<Semaphore>,
    max_connections: usize,
    shutdown: CancellationToken,
    /// Rings that were handed out and that writers still wait for, although the readers' connections have ended.
    kept: Mutex<Vec<Handout>>,
}

impl Daemon {
    /// A daemon without streams.
    pub fn new(settings: &Settings) -> Self {
        let max_connections = settings.max_connections.min(Semaphore::MAX_PERMITS);
        let registry = Registry::with_descriptors(settings.limits, settings.max_stream_descriptors);
        let local = |mount: &MountSettings| Arc::new(Local::new(mount.clone(), registry.clone())) as _;
        let mounts = settings.mounts.iter().map(local).collect();
        Self {
            namespace: Namespace::new(mounts),
            registry,
            hello_timeout: HELLO_TIMEOUT,
            max_block_time: settings.max_block_time,
            mortal: Notify::new(),
            lender: Lender::new(),
            arriving: Budget::new(settings.limits.max_memory / MESSAGES_SHARE),
            leaving: Budget::new(settings.limits.max_memory / MESSAGES_SHARE),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            shutdown: CancellationToken::new(),
            kept: Mutex::default(),
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

    /// Cancelled when the daemon begins to end: sessions then tell their clients and end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Keeps a ring that was handed out until the daemon is dropped.
    pub(crate) fn keep(&self, handout: Handout) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(handout);
    }

    /// When it was made, which is in the [`Identity`](pfs_proto::Identity) of its streams.
    pub fn started(&self) -> SystemTime {
        self.registry.created()
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
            started: self.started(),
            mounts: self.namespace.mounts().map(str::to_owned).collect(),
            streams: wide(self.registry.len()),
            max_streams: wide(limits.max_streams),
            memory: self.registry.memory(),
            max_memory: limits.max_memory,
            connections: wide(open),
            max_connections: wide(self.max_connections),
        }
    }

    /// The streams at a path and below it, sorted by path.
    ///
    /// # Errors
    ///
    /// The caller may not read them, the path is that of no directory, or a mount cannot tell.
    pub async fn list(&self, caller: &Caller, path: &str) -> Result<Vec<Entry>, Failure> {
        caller.permissions.may_read(path)?;
        let (prefix, may_be_empty) = self.namespace.directory(path)?;
        let mut entries = Vec::new();
        for mount in self.namespace.mounts_at(&prefix) {
            entries.extend(mount.list(&prefix).await?);
        }
        if entries.is_empty() && !may_be_empty {
            return Err(Failure::no_such_stream(prefix.as_str()));
        }
        entries.sort_by(|one, other| one.summary.path.cmp(&other.summary.path));
        Ok(entries)
    }

    /// The text of a document; `None` if the path is a stream's.
    ///
    /// # Errors
    ///
    /// The caller may not read the path, or it is outside all mounts.
    pub fn document(&self, caller: &Caller, path: &StreamPath) -> Result<Option<&'static str>, Failure> {
        caller.permissions.may_read(path.as_str())?;
        Ok(match self.namespace.place(path)? {
            Place::Document(text) => Some(text),
            Place::Stream(_) => None,
        })
    }

    /// Memory budget of messages that are on their way to streams, and are appended only once they are complete.
    pub fn arriving(&self) -> &Budget {
        &self.arriving
    }

    /// Memory budget of messages that are on their way to clients, and cannot be sent in parts.
    pub fn leaving(&self) -> &Budget {
        &self.leaving
    }

    /// Counters of all streams since the daemon began, and of who is attached to them.
    ///
    /// # Errors
    ///
    /// The caller may not read all streams.
    pub fn totals(&self, caller: &Caller) -> Result<Totals, Failure> {
        caller.permissions.may_read("/")?;
        Ok(self.registry.totals())
    }
}

/// A count as the wire has it.
pub fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
