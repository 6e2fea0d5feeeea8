//! Streams by name, within limits.

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

use expiry::{Expiry, Until};
use pending::Slot;

pub use pending::PendingReader;

/// What comes next after the slash in the order of names.
const AFTER_SLASH: char = '0';

/// Named streams. Clones are handles to the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
    /// To which the streams are charged that are created through this handle.
    quota: Option<Quota>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    max_streams: AtomicUsize,
    created: SystemTime,
    /// Memory that streams take, including removed ones that readers in other processes have not
    /// left yet.
    rings: Budget,
    /// Descriptors of rings.
    descriptors: Budget,
    /// What those did who are no longer attached to any stream.
    gone: Arc<Gone>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    streams: BTreeMap<String, Stream>,
    expiry: Expiry,
    /// Readers that wait for a stream of a name.
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

    /// An empty registry whose streams occupy at most `descriptors` descriptors: one for each that
    /// has its full size, or that another process was given to read. Further streams are read
    /// and written in this process alone.
    pub fn with_descriptors(limits: Limits, descriptors: u64) -> Self {
        let names = Mutex::new(Names::default());
        let rings = Budget::new(limits.max_memory);
        let (created, gone) = (SystemTime::now(), Arc::default());
        let (max_streams, descriptors) =
            (AtomicUsize::new(limits.max_streams), Budget::new(descriptors));
        let inner = Arc::new(Inner { max_streams, created, rings, descriptors, gone, names });
        Self { inner, quota: None }
    }

    /// A handle to the same registry that charges the streams created through it to a quota as
    /// well.
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

    /// When it was made: the start of the daemon in the [`Identity`](crate::Identity) of its
    /// streams.
    pub fn created(&self) -> SystemTime {
        self.inner.created
    }

    /// Makes a stream. Readers that wait for the name are attached before anybody can append.
    ///
    /// # Errors
    ///
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, name: &str, config: StreamConfig) -> Result<Stream, CreateError> {
        self.create_with(name, config, |_| ())
    }

    /// As [`create`](Self::create), and before anybody else can append to the stream, `begin` is
    /// called with it.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
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
        let (stream, _) = self.make(&mut names, name, config)?;
        begin(&stream);
        Ok(stream)
    }

    /// As [`create_with`](Self::create_with), but in place of a stream of this name, if there is
    /// one, closed or not. That one is removed in the same step: nobody finds none in between,
    /// and those attached to it are told that it was removed.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), except [`CreateError::Exists`]. The old stream is as it was
    /// then.
    pub fn replace_with(
        &self,
        name: &str,
        config: StreamConfig,
        begin: impl FnOnce(&Stream),
    ) -> Result<Stream, CreateError> {
        let mut names = self.inner.names();
        let (stream, replaced) = self.make(&mut names, name, config)?;
        begin(&stream);
        if let Some(replaced) = replaced {
            replaced.remove();
        }
        Ok(stream)
    }

    /// The stream of this name, made if there is none.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), except [`CreateError::Exists`].
    pub fn open_or_create(&self, name: &str, config: StreamConfig) -> Result<Stream, CreateError> {
        let mut names = self.inner.names();
        match names.streams.get(name) {
            Some(stream) => Ok(stream.clone()),
            None => Ok(self.make(&mut names, name, config)?.0),
        }
    }

    /// Makes a stream, and gives back the one whose name it took.
    fn make(
        &self,
        names: &mut Names,
        name: &str,
        config: StreamConfig,
    ) -> Result<(Stream, Option<Stream>), CreateError> {
        config.check()?;
        let limits = self.limits();
        let replaced = names.streams.get(name);
        let overhead = state::overhead(name);
        let needed = config.first_layout().bytes() + overhead;
        // The quota first: an owner who has reached it can make room, however full the registry is.
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
        let stream =
            Stream::from_shared(Shared::new(name, config, ring, charges, Some(created), gone));
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

    /// Removes a stream, telling everybody attached. False if there is none.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.inner.names().take(name);
        removed.map(|stream| stream.remove()).is_some()
    }

    /// Removes this very stream, telling everybody attached. False if it is not there any more;
    /// another stream of its name stays.
    pub fn remove_stream(&self, stream: &Stream) -> bool {
        let mut names = self.inner.names();
        let is_there = |found: &Stream| found.identity() == stream.identity();
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

    /// The first `most` streams that have the name `path` or are below it, as `/a/b` is below `/a`,
    /// and whose names come behind `after`; sorted by name. Looks at no other streams.
    pub fn list_at(&self, path: &str, after: &str, most: usize) -> Vec<Stream> {
        let (first, end) = (format!("{path}/"), format!("{path}{AFTER_SLASH}"));
        let names = self.inner.names();
        let at = names.streams.get(path).filter(|stream| stream.name() > after);
        let begin = if after < &*first { Bound::Included(&*first) } else { Bound::Excluded(after) };
        // Beyond its end a range has no beginning.
        let below =
            (after < &*end).then(|| names.streams.range::<str, _>((begin, Bound::Excluded(&*end))));
        let below = below.into_iter().flatten().map(|(_, stream)| stream);
        at.into_iter().chain(below).take(most).cloned().collect()
    }

    /// A reader of the stream of this name, as soon as it exists. It is attached before the first
    /// byte.
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
    /// As [`Stream::reader`].
    pub fn reader(
        &self,
        name: &str,
        options: ReadOptions,
        peer: Peer,
    ) -> Option<Result<Reader, AttachError>> {
        Some(self.get(name)?.reader_of(options, peer))
    }

    /// Removes the streams whose time to live runs out, whose deadline comes, or that were
    /// [idle](Self::set_idle_ttl) for long enough within this time, and tells their names. With
    /// zero, those that have expired. Looks only at streams that are due.
    pub fn expire(&self, within: Duration) -> Vec<String> {
        let until = Until::from_now(within);
        let mut expired = Vec::new();
        while self.inner.names().take_expired(until, &mut expired) {}
        expired.into_iter().map(|stream| (stream.remove(), stream.name().to_owned()).1).collect()
    }

    /// How long it takes until a stream expires, unless it is used meanwhile: when to call
    /// [`expire`](Self::expire).
    pub fn next_expiry(&self) -> Option<Duration> {
        self.inner.names().expiry.next()
    }

    /// Waits until a stream may expire before the time that [`next_expiry`](Self::next_expiry) told
    /// last, because it was made afterwards or [`set_idle_ttl`](Self::set_idle_ttl) was called.
    /// For one task, which expires streams.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed.
    pub async fn expiry_is_sooner(&self) {
        poll_fn(|cx| self.inner.names().expiry.poll_sooner(cx)).await;
    }

    /// Has streams expire that were idle for this time: not closed, and without readers, writers
    /// and [holds](Stream::hold). `None`, the default, has them stay. Streams that have a time
    /// to live or a deadline keep to that. Counts for streams that are there, from the end of
    /// their last use on.
    pub fn set_idle_ttl(&self, idle_ttl: Option<Duration>) {
        self.inner.names().set_idle_ttl(idle_ttl);
    }

    /// Streams that it holds.
    pub fn len(&self) -> usize {
        self.inner.names().streams.len()
    }

    /// Whether it holds no stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that streams take, including removed ones that readers in other processes
    /// have not left yet.
    pub fn memory(&self) -> u64 {
        self.inner.rings.used()
    }

    /// What its streams did since it was made, and who is attached to them. Takes each stream's
    /// locks in turn.
    pub fn totals(&self) -> Totals {
        self.inner
            .gone
            .with(|totals| self.list().iter().for_each(|stream| stream.shared.add_to(totals)))
    }

    /// What it may hold.
    pub fn limits(&self) -> Limits {
        Limits {
            max_streams: self.inner.max_streams.load(Relaxed),
            max_memory: self.inner.rings.limit(),
        }
    }

    /// Changes what it may hold, and how many descriptors its streams may occupy. Streams beyond
    /// lower limits stay; no further one is made until enough of them are gone.
    pub fn set_limits(&self, limits: Limits, descriptors: u64) {
        self.inner.max_streams.store(limits.max_streams, Relaxed);
        self.inner.rings.set_limit(limits.max_memory);
        self.inner.descriptors.set_limit(descriptors);
    }
}
