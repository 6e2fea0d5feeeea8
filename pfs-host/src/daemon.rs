//! Daemon state that all connections share: streams, limits, budgets, connections and shutdown.

use std::{
    any::Any,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    mem, process,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use pfs_proto::{DaemonInfo, ErrorCode, Hop, MountStat, StreamPath};
use pfs_stream::{Budget, Registry, Reservation, Totals};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    buffers::Buffers,
    caller::Caller,
    connections::{Admitted, Connections},
    failure::Failure,
    mount::{Elsewhere, Local, Mount},
    namespace::{Namespace, Place},
    quotas::Quotas,
    refusals::{Reason, Refusals},
    reload::ReloadRequest,
    settings::{MountSettings, Settings},
};

/// Divisor of `limits.max_memory` for messages. Messages on their way to streams may occupy this
/// share of the limit, messages on their way to clients another share of the same size, both in
/// addition to the memory of streams.
const MESSAGES_SHARE: u64 = 8;

/// The largest answer, in bytes, that is not charged to the budget: a page of 64 KiB and the
/// overhead of its JSON.
pub(crate) const UNCHARGED_ANSWER: usize = 96 * 1024;

/// Time limit for a client's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon without its socket: streams in memory, within limits.
#[derive(Debug)]
pub struct Daemon {
    /// Maps paths to streams and documents.
    pub namespace: Namespace,
    pub(crate) registry: Registry,
    quotas: Arc<Quotas>,
    pub(crate) hello_timeout: Duration,
    /// How long a `block` reader may keep a writer waiting.
    pub(crate) max_block_time: watch::Sender<Option<Duration>>,
    /// Time without streams and connections after which the daemon ends.
    pub(crate) idle_exit: watch::Sender<Option<Duration>>,
    /// Buffers for the bytes that are sent to readers.
    pub(crate) buffers: Buffers,
    refusals: Arc<Refusals>,
    arriving: Budget,
    leaving: Budget,
    pub(crate) connections: Arc<Connections>,
    /// Held while a connection is admitted, and while idle exit decides whether the daemon is idle:
    /// no connection is admitted during that decision.
    pub(crate) admission: Mutex<()>,
    shutdown: CancellationToken,
    /// Tells this daemon apart from others on the way to the owner of a mount.
    id: u64,
    /// The uid that may operate the daemon, besides root.
    pub(crate) operator: Option<u32>,
    /// Queue of requests to reload the configuration.
    pub(crate) reloads: Option<mpsc::Sender<ReloadRequest>>,
    /// Values that must live as long as the daemon: rings that were handed out and for which
    /// writers still wait although the readers' connections have ended, and connections of clients
    /// that wait for the daemon's end.
    pub(crate) kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Daemon {
    /// Creates a daemon without streams.
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
            id: RandomState::new().build_hasher().finish(),
            operator: None,
            reloads: None,
            kept: Mutex::default(),
        }
    }

    /// The random number by which this daemon finds itself in [`Hop`]s.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Follows a mount to the daemon that owns its streams.
    ///
    /// # Errors
    ///
    /// The caller may use nothing of the mount, there is no such mount, a daemon on the way cannot be
    /// reached, or this daemon is among the hops: the mounts form a loop.
    pub(crate) async fn trace(
        &self,
        caller: &Caller,
        mount: &str,
        hops: Vec<Hop>,
    ) -> Result<(), Failure> {
        caller.permissions.may_use_some(mount)?;
        if hops.iter().any(|hop| hop.daemon == self.id) {
            let names: Vec<&str> = hops.iter().map(|hop| hop.mount.as_str()).collect();
            let message = format!("the mounts form a loop: {}", names.join(", "));
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        match self.namespace.mount(mount)?.elsewhere() {
            Some(owner) => owner.trace(hops).await,
            None => Ok(()),
        }
    }

    /// How long a `block` reader may keep a writer waiting, as the settings say at each moment.
    pub fn max_block_time(&self) -> watch::Receiver<Option<Duration>> {
        self.max_block_time.subscribe()
    }

    /// Changes all limits to those of `settings`.
    ///
    /// Nothing that exceeds a lower limit is taken back, but nothing more is granted until enough
    /// has been returned. A new `max_block_time` takes effect at once: for writers that already
    /// wait, the time starts now. A new `idle_ttl` also applies to existing streams, counted from
    /// the end of their last use.
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

    /// Adds a mount. Its path must not be that of another mount.
    #[must_use]
    pub fn with_mount(mut self, mount: Arc<dyn Mount>) -> Self {
        self.namespace.add(mount);
        self
    }

    /// Sets the time limit for a client's hello, which is five seconds by default.
    #[must_use]
    pub fn with_hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = timeout;
        self
    }

    /// Returns the registry of streams, for programs that embed a daemon.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Admits a connection. Its slot is returned when [`Admitted`] is dropped. `None` if all slots
    /// are taken or the daemon is shutting down.
    pub fn admit(&self) -> Option<Admitted> {
        let _admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shutdown.is_cancelled() { None } else { self.connections.admit() }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Token that is cancelled when the shutdown begins. Sessions then tell their clients and end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Start time of the daemon, which is part of the [`Identity`](pfs_proto::Identity) of
    /// its streams.
    pub fn started(&self) -> SystemTime {
        self.registry.created()
    }

    /// Limit on simultaneous connections.
    pub fn max_connections(&self) -> u64 {
        self.connections.max()
    }

    /// Version, process id, mounts, and the use and limits of streams, memory and connections.
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

    /// The mounts of other daemons' streams that the caller may read as a whole, with their links.
    pub async fn mounts(&self, caller: &Caller) -> Vec<MountStat> {
        let may_read = |mount: &&dyn Mount| caller.permissions.may_read(mount.path()).is_ok();
        let mounts = self.namespace.all().filter(may_read);
        join_all(mounts.filter_map(Mount::elsewhere).map(Elsewhere::mount_stat)).await
    }

    /// Returns the text of a document; `None` if the path belongs to a stream.
    ///
    /// # Errors
    ///
    /// The caller may not read the path, or the path is outside all mounts.
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

    /// Counters of refusals since the daemon started. All code that refuses a client counts and
    /// logs the refusal here.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Memory budget for incomplete messages to streams: a message is appended only when it
    /// is complete.
    pub fn arriving(&self) -> &Budget {
        &self.arriving
    }

    /// Memory budget for messages to clients that cannot be sent in parts.
    pub fn leaving(&self) -> &Budget {
        &self.leaving
    }

    /// Charges the memory of an answer that stays in memory until its client has taken all of it.
    /// `None` if the answer is so small that every client may have one.
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
                "too many large answers are in flight; try again, or raise limits.max_memory";
            Failure::new(ErrorCode::Limit, message).because(Reason::MessageMemory)
        })
    }

    /// Counters of all streams since the daemon started, and the number of attached readers
    /// and writers.
    ///
    /// # Errors
    ///
    /// The caller may not read all streams.
    pub fn totals(&self, caller: &Caller) -> Result<Totals, Failure> {
        caller.permissions.may_read("/")?;
        Ok(self.registry.totals())
    }
}

/// Converts a count to the 64 bits of the wire format.
pub fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
