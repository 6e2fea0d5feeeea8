//! What all connections share: the streams, the limits and what the daemon tells of itself.

use std::{
    any::Any,
    mem, process,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use pfs_proto::{DaemonInfo, ErrorCode, StreamPath};
use pfs_stream::{Budget, Registry, Reservation, Totals};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    buffers::Buffers,
    caller::Caller,
    connections::{Admitted, Connections},
    failure::Failure,
    mount::Local,
    namespace::{Namespace, Place},
    quotas::Quotas,
    refusals::{Reason, Refusals},
    reload::ReloadRequest,
    settings::{MountSettings, Settings},
};

/// Divisor of `limits.max_memory`. Messages on their way to streams may take this part of it,
/// beside the streams, and messages on their way to clients another part of that size.
const MESSAGES_SHARE: u64 = 8;

/// The largest answer, in bytes, that is not charged to the budget: a page of 64 KiB, and what JSON
/// adds to it.
const UNCHARGED_ANSWER: usize = 96 * 1024;

/// How long a client may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon without its socket: streams in memory, within limits.
#[derive(Debug)]
pub struct Daemon {
    /// Which paths are streams, documents or neither.
    pub namespace: Namespace,
    pub(crate) registry: Registry,
    quotas: Arc<Quotas>,
    pub(crate) hello_timeout: Duration,
    /// How long a `block` reader may keep a writer waiting.
    pub(crate) max_block_time: watch::Sender<Option<Duration>>,
    /// Time without streams and connections after which the daemon ends.
    pub(crate) idle_exit: watch::Sender<Option<Duration>>,
    /// The buffers of what is sent to readers.
    pub(crate) buffers: Buffers,
    refusals: Arc<Refusals>,
    arriving: Budget,
    leaving: Budget,
    pub(crate) connections: Arc<Connections>,
    /// Held while a connection is let in, so that none is while it is decided whether the daemon
    /// is idle.
    pub(crate) admission: Mutex<()>,
    shutdown: CancellationToken,
    /// The user that may operate the daemon, besides root.
    pub(crate) operator: Option<u32>,
    /// Where requests to reload the configuration go.
    pub(crate) reloads: Option<mpsc::Sender<ReloadRequest>>,
    /// Rings that were handed out and that writers still wait for, although the readers'
    /// connections have ended; connections of clients that wait for the daemon's end.
    pub(crate) kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Daemon {
    /// A daemon without streams.
    pub fn new(settings: &Settings) -> Self {
        let registry = Registry::with_descriptors(settings.limits, settings.max_stream_descriptors);
        registry.set_idle_ttl(settings.idle_ttl);
        let quotas = Arc::new(Quotas::new(settings.user_quota, settings.token_quota));
        let local = |mount: &MountSettings| {
            Arc::new(Local::new(mount.clone(), registry.clone(), Arc::clone(&quotas))) as _
        };
        let mounts = settings.mounts.iter().map(local).collect();
        Self {
            namespace: Namespace::new(mounts),
            registry,
            quotas,
            hello_timeout: HELLO_TIMEOUT,
            max_block_time: watch::Sender::new(settings.max_block_time),
            idle_exit: watch::Sender::new(settings.idle_exit),
            buffers: Buffers::new(),
            refusals: Arc::new(Refusals::new()),
            arriving: Budget::new(settings.limits.max_memory / MESSAGES_SHARE),
            leaving: Budget::new(settings.limits.max_memory / MESSAGES_SHARE),
            connections: Arc::new(Connections::new(wide(settings.max_connections))),
            admission: Mutex::default(),
            shutdown: CancellationToken::new(),
            operator: None,
            reloads: None,
            kept: Mutex::default(),
        }
    }

    /// Changes all limits to those of `settings`. What was given out beyond lower limits stays;
    /// nothing more is given out until enough of it was given back. A new time limit of `block`
    /// readers holds at once, for writers that wait already from now on; one of idle streams
    /// holds for streams that are there, from the end of their last use on.
    pub fn set_limits(&self, settings: &Settings) {
        self.registry.set_limits(settings.limits, settings.max_stream_descriptors);
        self.registry.set_idle_ttl(settings.idle_ttl);
        self.quotas.set(settings.user_quota, settings.token_quota);
        self.arriving.set_limit(settings.limits.max_memory / MESSAGES_SHARE);
        self.leaving.set_limit(settings.limits.max_memory / MESSAGES_SHARE);
        self.connections.set_max(wide(settings.max_connections));
        for (time, new) in
            [(&self.max_block_time, settings.max_block_time), (&self.idle_exit, settings.idle_exit)]
        {
            time.send_if_modified(|time| mem::replace(time, new) != *time);
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

    /// A place among the connections, given back when dropped; `None` if all are taken, or the
    /// daemon ends.
    pub fn admit(&self) -> Option<Admitted> {
        let _admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shutdown.is_cancelled() { None } else { self.connections.admit() }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Cancelled when the daemon begins to end: sessions then tell their clients and end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// When it was made, which is in the [`Identity`](pfs_proto::Identity) of its streams.
    pub fn started(&self) -> SystemTime {
        self.registry.created()
    }

    /// Connections that there may be at a time.
    pub fn max_connections(&self) -> u64 {
        self.connections.max()
    }

    /// What the daemon tells of itself.
    pub fn info(&self) -> DaemonInfo {
        let limits = self.registry.limits();
        DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started(),
            mounts: self.namespace.mounts().map(str::to_owned).collect(),
            streams: wide(self.registry.len()),
            max_streams: wide(limits.max_streams),
            memory: self.registry.memory(),
            max_memory: limits.max_memory,
            connections: self.connections.open(),
            max_connections: self.connections.max(),
        }
    }

    /// The text of a document; `None` if the path is a stream's.
    ///
    /// # Errors
    ///
    /// The caller may not read the path, or it is outside all mounts.
    pub fn document(
        &self,
        caller: &Caller,
        path: &StreamPath,
    ) -> Result<Option<&'static str>, Failure> {
        caller.permissions.may_read(path.as_str())?;
        Ok(match self.namespace.place(path)? {
            Place::Document(text) => Some(text),
            Place::Stream(_) => None,
        })
    }

    /// Refusals since the daemon began. Everything that refuses a client counts and logs it here.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Memory budget of messages that are on their way to streams, and are appended only once they
    /// are complete.
    pub fn arriving(&self) -> &Budget {
        &self.arriving
    }

    /// Memory budget of messages that are on their way to clients, and cannot be sent in parts.
    pub fn leaving(&self) -> &Budget {
        &self.leaving
    }

    /// Charges the memory of an answer that is kept whole until its client has taken it. `None`
    /// where the answer is so small that every client may have one.
    ///
    /// # Errors
    ///
    /// The budget is used up.
    pub fn hold_answer(&self, bytes: usize) -> Result<Option<Reservation>, Failure> {
        if bytes <= UNCHARGED_ANSWER {
            return Ok(None);
        }
        self.leaving.reserve(wide(bytes)).map(Some).ok_or_else(|| {
            let message =
                "too many large answers are on their way just now; try again, or raise limits.max_memory";
            Failure::new(ErrorCode::Limit, message).because(Reason::MessageMemory)
        })
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
