//! Stream registry: streams by name, within limits.

mod expiry;
mod pending;

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use pfs_proto::{Peer, ReadOptions};

use crate::{
    AttachError, Budget, CreateError, Limits, Quota, Reader, Stream, StreamConfig, Totals,
    state::{self, Charges, Shared},
    stream,
    totals::Gone,
};

#[cfg(feature = "host")]
use crate::replica::{Link, Upstream};
use expiry::{Expiry, Until};
use pending::Slot;

pub use pending::PendingReader;

/// The character after the slash in the order of names.
const AFTER_SLASH: char = '0';

/// Named streams. Clones are handles to the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
    /// The quota that is charged for streams created through this handle.
    quota: Option<Quota>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    max_streams: AtomicUsize,
    created: SystemTime,
    /// Memory of streams, including removed streams that readers in other processes still map.
    rings: Budget,
    /// Descriptors of rings.
    descriptors: Budget,
    /// Totals of readers and writers that have left.
    gone: Arc<Gone>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    streams: BTreeMap<String, Stream>,
    expiry: Expiry,
    /// Readers that wait for a stream of a name to be created.
    pub(crate) pending: HashMap<String, Vec<Weak<Slot>>>,
}

impl Names {
    /// Takes out the stream of this name.
    fn take(&mut self, name: &str) -> Option<Stream> {
        let stream = self.streams.remove(name)?;
        self.expiry.remove(&stream);
        Some(stream)
    }
}

impl Inner {
    pub(crate) fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: Limits) -> Self {
        Self::with_descriptors(limits, u64::MAX)
    }

    /// An empty registry whose streams occupy at most `descriptors` descriptors. A stream occupies
    /// one if it has its full size, or if another process was given its ring to read. Beyond the
    /// limit, streams can be read and written in this process only.
    pub fn with_descriptors(limits: Limits, descriptors: u64) -> Self {
        let names = Mutex::new(Names::default());
        let rings = Budget::new(limits.max_memory);
        let (created, gone) = (SystemTime::now(), Arc::default());
        let (max_streams, descriptors) =
            (AtomicUsize::new(limits.max_streams), Budget::new(descriptors));
        let inner = Arc::new(Inner { max_streams, created, rings, descriptors, gone, names });
        Self { inner, quota: None }
    }

    /// A handle to the same registry that also charges a quota for the streams created through it.
    ///
    /// ```
    /// # use pfs_stream::*;
    /// let registry = Registry::new(Limits::default());
    /// let one = Quota::new(Limits { max_streams: 1, ..Limits::UNLIMITED });
    /// registry.charged_to(&one).create("a", StreamConfig::default())?;
    /// let refused = registry.charged_to(&one).create("b", StreamConfig::default());
    /// assert!(matches!(refused, Err(CreateError::QuotaOfStreams { used: 1, limit: 1 })));
    /// registry.create("b", StreamConfig::default())?;
    /// # Ok::<(), CreateError>(())
    /// ```
    #[must_use]
    pub fn charged_to(&self, quota: &Quota) -> Self {
        Self { inner: Arc::clone(&self.inner), quota: Some(quota.clone()) }
    }

    /// When the registry was made: the start of the daemon in the [`Identity`](crate::Identity) of
    /// its streams.
    pub fn created(&self) -> SystemTime {
        self.inner.created
    }

    /// Creates a stream. Readers that wait for the name are attached before anyone can append.
    ///
    /// # Errors
    ///
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, name: &str, config: StreamConfig) -> Result<Stream, CreateError> {
        self.create_with(name, config, |_| ())
    }

    /// Creates a stream, like [`create`](Self::create), and calls `begin` with it before anyone
    /// else can append to it.
    ///
    /// # Errors
    ///
    /// [`CreateError`], in the same cases as [`create`](Self::create).
    pub fn create_with(
        &self,
        name: &str,
        config: StreamConfig,
        begin: impl FnOnce(&Stream),
    ) -> Result<Stream, CreateError> {
        let mut names = self.inner.names();
        if names.streams.contains_key(name) {
            return Err(CreateError::Exists);
        }
        let (stream, _) = self.make(&mut names, name, config, |made| made)?;
        begin(&stream);
        Ok(stream)
    }

    /// Creates a replica of a stream of another host, with the identity, the creation time and the
    /// offsets of that stream. Returns the [`Link`] that appends to it.
    ///
    /// # Errors
    ///
    /// [`CreateError`], in the same cases as [`create`](Self::create).
    #[cfg(feature = "host")]
    pub fn create_replica(
        &self,
        name: &str,
        config: StreamConfig,
        upstream: &Upstream,
    ) -> Result<(Stream, Link), CreateError> {
        let mut names = self.inner.names();
        if names.streams.contains_key(name) {
            return Err(CreateError::Exists);
        }
        let (stream, _) =
            self.make(&mut names, name, config, |shared| shared.replicating(upstream))?;
        let link = Link::new(&stream);
        Ok((stream, link))
    }

    /// Creates a stream, like [`create_with`](Self::create_with), in place of the stream of this
    /// name if there is one, closed or not. The old stream is removed in the same step: a lookup of
    /// the name always finds one of the two, and readers and writers of the old stream are told
    /// that it was removed.
    ///
    /// # Errors
    ///
    /// [`CreateError`], in the same cases as [`create`](Self::create), except
    /// [`CreateError::Exists`]. The old stream is unchanged then.
    pub fn replace_with(
        &self,
        name: &str,
        config: StreamConfig,
        begin: impl FnOnce(&Stream),
    ) -> Result<Stream, CreateError> {
        let mut names = self.inner.names();
        let (stream, replaced) = self.make(&mut names, name, config, |made| made)?;
        begin(&stream);
        if let Some(replaced) = replaced {
            replaced.remove();
        }
        Ok(stream)
    }

    /// The stream of this name. Creates the stream if there is none.
    ///
    /// # Errors
    ///
    /// [`CreateError`], in the same cases as [`create`](Self::create), except
    /// [`CreateError::Exists`].
    pub fn open_or_create(&self, name: &str, config: StreamConfig) -> Result<Stream, CreateError> {
        let mut names = self.inner.names();
        match names.streams.get(name) {
            Some(stream) => Ok(stream.clone()),
            None => Ok(self.make(&mut names, name, config, |made| made)?.0),
        }
    }

    /// Creates a stream, whose state is what `change` makes of a new one. Returns the stream, and
    /// the stream whose name it took.
    fn make(
        &self,
        names: &mut Names,
        name: &str,
        config: StreamConfig,
        change: impl FnOnce(Shared) -> Shared,
    ) -> Result<(Stream, Option<Stream>), CreateError> {
        config.check()?;
        let limits = self.limits();
        let replaced = names.streams.get(name);
        let overhead = state::overhead(name);
        let needed = config.first_layout().bytes() + overhead;
        // Check the quota first: an owner at its quota can make room by itself, even if the
        // registry is full too.
        let mut charges = Charges {
            budgets: vec![self.inner.rings.clone()],
            descriptors: self.inner.descriptors.clone(),
            ..Charges::default()
        };
        let mut charge = Vec::new();
        if let Some(quota) = &self.quota {
            let [stream, mut memory] = quota.charge(needed, replaced)?;
            charges.reserved.extend([stream, memory.split(overhead)]);
            charges.budgets.push(quota.memory.clone());
            charge.push(memory);
        }
        let others = names.streams.len().saturating_sub(usize::from(replaced.is_some()));
        if others >= limits.max_streams {
            return Err(CreateError::TooManyStreams { limit: limits.max_streams });
        }
        let (rings, used) = (&self.inner.rings, self.memory());
        let Some(mut memory) = rings.reserve_beyond(needed, stream::spared(replaced, rings)) else {
            return Err(CreateError::TooMuchMemory { needed, used, limit: limits.max_memory });
        };
        charges.reserved.push(memory.split(overhead));
        charge.push(memory);
        let ring = state::first_ring(&config, charge, &self.inner.descriptors)?;
        let (created, gone) = (self.inner.created, Arc::clone(&self.inner.gone));
        let shared = Shared::new(name, config, ring, charges, Some(created), gone);
        let stream = Stream::from_shared(change(shared));
        for slot in names.pending.remove(name).unwrap_or_default() {
            if let Some(slot) = slot.upgrade() {
                slot.attach(&stream);
            }
        }
        let replaced = names.streams.insert(name.to_owned(), stream.clone());
        if let Some(replaced) = &replaced {
            names.expiry.remove(replaced);
        }
        names.expiry.put(&stream);
        Ok((stream, replaced))
    }

    /// The stream of this name.
    pub fn get(&self, name: &str) -> Option<Stream> {
        self.inner.names().streams.get(name).cloned()
    }

    /// Removes a stream, and tells all its readers and writers. False if no stream has this name.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.inner.names().take(name);
        removed.map(|stream| stream.remove()).is_some()
    }

    /// Removes exactly this stream, and tells all its readers and writers. False if it is no longer
    /// in the registry; another stream of its name stays.
    pub fn remove_stream(&self, stream: &Stream) -> bool {
        let mut names = self.inner.names();
        let is_there = |found: &Stream| found.is_same(stream);
        let removed = if names.streams.get(stream.name()).is_some_and(is_there) {
            names.take(stream.name())
        } else {
            None
        };
        drop(names);
        removed.map(|stream| stream.remove()).is_some()
    }

    /// All streams, sorted by name.
    pub fn list(&self) -> Vec<Stream> {
        self.inner.names().streams.values().cloned().collect()
    }

    /// The first `most` streams, sorted by name, that have the name `path` or are below it (as
    /// `/a/b` is below `/a`), and whose names sort after `after`. Visits no other streams.
    pub fn list_at(&self, path: &str, after: &str, most: usize) -> Vec<Stream> {
        let (first, end) = (format!("{path}/"), format!("{path}{AFTER_SLASH}"));
        let names = self.inner.names();
        let at = names.streams.get(path).filter(|stream| stream.name() > after);
        let begin = if after < &*first { Bound::Included(&*first) } else { Bound::Excluded(after) };
        // `range` panics if it starts after its end.
        let below =
            (after < &*end).then(|| names.streams.range::<str, _>((begin, Bound::Excluded(&*end))));
        let below = below.into_iter().flatten().map(|(_, stream)| stream);
        at.into_iter().chain(below).take(most).cloned().collect()
    }

    /// A reader of the stream of this name, as soon as the stream exists. The reader is attached
    /// before the first byte.
    pub fn reader_when_created(
        &self,
        name: &str,
        options: ReadOptions,
        peer: Peer,
    ) -> PendingReader {
        let slot = Arc::new(Slot::new(options, peer));
        let mut names = self.inner.names();
        match names.streams.get(name) {
            Some(stream) => slot.attach(stream),
            None => names.pending.entry(name.to_owned()).or_default().push(Arc::downgrade(&slot)),
        }
        drop(names);
        PendingReader::new(self.clone(), name.to_owned(), slot)
    }

    /// A reader of the stream of this name, if it exists.
    ///
    /// # Errors
    ///
    /// [`AttachError`], in the same cases as [`Stream::reader`].
    pub fn reader(
        &self,
        name: &str,
        options: ReadOptions,
        peer: Peer,
    ) -> Option<Result<Reader, AttachError>> {
        Some(self.get(name)?.reader_of(options, peer))
    }

    /// Expires streams, and returns their names: removes the streams whose time to live runs out,
    /// whose deadline comes, or that will have been [idle](Self::set_idle_ttl) for long enough,
    /// within this time. With zero, removes the streams that have already expired. Visits only
    /// streams that are due.
    pub fn expire(&self, within: Duration) -> Vec<String> {
        let until = Until::from_now(within);
        let mut expired = Vec::new();
        while self.inner.names().take_expired(until, &mut expired) {}
        expired.into_iter().map(|stream| (stream.remove(), stream.name().to_owned()).1).collect()
    }

    /// The time until a stream expires, unless the stream is used meanwhile: when to call
    /// [`expire`](Self::expire).
    pub fn next_expiry(&self) -> Option<Duration> {
        self.inner.names().expiry.next()
    }

    /// Waits until a stream may expire earlier than [`next_expiry`](Self::next_expiry) last said,
    /// because the stream was created afterwards or [`set_idle_ttl`](Self::set_idle_ttl) was
    /// called. Only one task, the one that expires streams, may call this.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no earlier expiry is missed.
    pub async fn expiry_is_sooner(&self) {
        poll_fn(|cx| self.inner.names().expiry.poll_sooner(cx)).await;
    }

    /// Sets the idle time after which streams expire. A stream is idle while it is not closed and
    /// has no readers, writers and [holds](Stream::hold). `None`, the default, keeps idle streams.
    /// A stream with a time to live or a deadline of its own follows that instead. Applies to
    /// existing streams too, from the end of their last use on.
    pub fn set_idle_ttl(&self, idle_ttl: Option<Duration>) {
        self.inner.names().set_idle_ttl(idle_ttl);
    }

    /// The number of streams.
    pub fn len(&self) -> usize {
        self.inner.names().streams.len()
    }

    /// Whether the registry has no stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory of streams, including removed streams that other processes still map.
    pub fn memory(&self) -> u64 {
        self.inner.rings.used()
    }

    /// Totals: what the streams did since the registry was made, and their attached readers and
    /// writers. Takes the locks of each stream in turn.
    pub fn totals(&self) -> Totals {
        self.inner
            .gone
            .with(|totals| self.list().iter().for_each(|stream| stream.shared.add_to(totals)))
    }

    /// The limits of the registry.
    pub fn limits(&self) -> Limits {
        Limits {
            max_streams: self.inner.max_streams.load(Relaxed),
            max_memory: self.inner.rings.limit(),
        }
    }

    /// Changes the limits, and how many descriptors the streams may occupy. Streams beyond lower
    /// limits stay; no further stream can be created until enough of them are gone.
    pub fn set_limits(&self, limits: Limits, descriptors: u64) {
        self.inner.max_streams.store(limits.max_streams, Relaxed);
        self.inner.rings.set_limit(limits.max_memory);
        self.inner.descriptors.set_limit(descriptors);
    }
}
