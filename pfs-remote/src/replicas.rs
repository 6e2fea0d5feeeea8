//! The replicas of a mount, by path: each exists once, however many clients ask for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use pfs_client::LinkReader;
use pfs_host::{Failure, mount::Blocking};
use pfs_proto::{LinkStat, StreamPath};
use pfs_stream::Stream;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{mount::Shared, policy::Ask, stats::LinkCounters};

/// What became of an attempt to open a replica: the stream; `None` if the owner has none; a failure.
pub(crate) type Opened = Result<Option<Stream>, Failure>;

/// A replica that is open or being opened.
#[derive(Debug)]
struct Entry {
    opened: watch::Receiver<Option<Opened>>,
    users: Arc<Users>,
    asks: mpsc::UnboundedSender<Ask>,
    counters: Arc<LinkCounters>,
}

impl Entry {
    /// Waits until it is known what became of the attempt to open the replica.
    async fn outcome(&self, shared: &Shared) -> Opened {
        let mut opened = self.opened.clone();
        let outcome = match opened.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            // The task has ended without an outcome.
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Err(shared.owner.unreachable("the link has ended")))
    }
}

/// The clients that have asked for a replica and are not attached to it yet.
#[derive(Debug, Default)]
pub(crate) struct Users {
    count: AtomicUsize,
    changed: Notify,
}

impl Users {
    /// Waits until a client has asked for the replica, or is done with it.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }
}

/// Keeps a replica while a client attaches to it.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Users>);

impl InUse {
    fn new(users: &Arc<Users>) -> Self {
        users.count.fetch_add(1, SeqCst);
        users.changed.notify_one();
        Self(Arc::clone(users))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, SeqCst);
        self.0.changed.notify_one();
    }
}

/// All replicas of a mount.
#[derive(Debug, Default)]
pub(crate) struct Replicas(Mutex<HashMap<StreamPath, Arc<Entry>>>);

impl Replicas {
    fn lock(&self) -> MutexGuard<'_, HashMap<StreamPath, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replica of a stream. Opens it if it is not open, with this link if one is given.
    pub(crate) async fn open(
        &self,
        shared: &Arc<Shared>,
        path: &StreamPath,
        mut link: Option<LinkReader>,
    ) -> Result<Option<(Stream, InUse)>, Failure> {
        let (entry, in_use, is_new) = self.entry(shared, path, &mut link);
        match entry.outcome(shared).await {
            // The owner may have been asked before the stream was created, and we after that.
            Ok(None) if !is_new => self.forget(path, &entry.users),
            outcome => return Ok(outcome?.map(|stream| (stream, in_use))),
        }
        let (entry, in_use, _) = self.entry(shared, path, &mut link);
        Ok(entry.outcome(shared).await?.map(|stream| (stream, in_use)))
    }

    /// The entry of a replica, and whether it is new.
    fn entry(
        &self,
        shared: &Arc<Shared>,
        path: &StreamPath,
        link: &mut Option<LinkReader>,
    ) -> (Arc<Entry>, InUse, bool) {
        let mut entries = self.lock();
        let known = entries.get(path).cloned();
        let is_new = known.is_none();
        let entry = known.unwrap_or_else(|| {
            let entry = begin(shared, path, link.take());
            entries.insert(path.clone(), Arc::clone(&entry));
            entry
        });
        let in_use = InUse::new(&entry.users);
        (entry, in_use, is_new)
    }

    /// Makes the link of a replica that is open a `block` reader at the owner.
    pub(crate) async fn block(&self, path: &StreamPath) -> Result<Blocking, Failure> {
        let entry = self.lock().get(path).cloned();
        let Some(entry) = entry else { return Ok(Blocking::default()) };
        let (ask, answer) = oneshot::channel();
        // If the stream has ended, there is no link, and no writer to wait.
        let _ = entry.asks.send(ask);
        answer.await.unwrap_or_else(|_| Ok(Blocking::default()))
    }

    /// The link of this path, if there is one.
    pub(crate) fn link(&self, path: &StreamPath) -> Option<LinkStat> {
        self.lock().get(path)?.counters.stat()
    }

    /// All links, sorted by path.
    pub(crate) fn links(&self) -> Vec<(String, LinkStat)> {
        let entries: Vec<_> = self
            .lock()
            .iter()
            .map(|(path, entry)| (path.to_string(), Arc::clone(&entry.counters)))
            .collect();
        let stat = |(path, counters): (_, Arc<LinkCounters>)| Some((path, counters.stat()?));
        let mut links: Vec<_> = entries.into_iter().filter_map(stat).collect();
        links.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        links
    }

    /// Forgets the replica with this stream. The next client opens a new one.
    pub(crate) fn remove(&self, path: &StreamPath, stream: &Stream) {
        let mut entries = self.lock();
        let is_it = |entry: &Arc<Entry>| match &*entry.opened.borrow() {
            Some(Ok(Some(known))) => known.is_same(stream),
            _ => false,
        };
        if entries.get(path).is_some_and(is_it) {
            entries.remove(path);
        }
    }

    /// Forgets a replica. The next client opens a new one.
    pub(crate) fn forget(&self, path: &StreamPath, users: &Arc<Users>) {
        self.forget_if(path, users, || true);
    }

    /// Forgets a replica if no client uses it. Returns whether it is forgotten.
    pub(crate) fn forget_unused(
        &self,
        path: &StreamPath,
        users: &Arc<Users>,
        stream: &Stream,
    ) -> bool {
        // Under the lock under which a client becomes a user.
        self.forget_if(path, users, || users.is_empty() && stream.readers() == 0)
    }

    fn forget_if(
        &self,
        path: &StreamPath,
        users: &Arc<Users>,
        condition: impl FnOnce() -> bool,
    ) -> bool {
        let mut entries = self.lock();
        let forgets = condition();
        if forgets && entries.get(path).is_some_and(|known| Arc::ptr_eq(&known.users, users)) {
            entries.remove(path);
        }
        forgets
    }
}

fn begin(shared: &Arc<Shared>, path: &StreamPath, link: Option<LinkReader>) -> Arc<Entry> {
    let (tell, opened) = watch::channel(None);
    let (asks, asked) = mpsc::unbounded_channel();
    let users = Arc::<Users>::default();
    let counters = Arc::new(LinkCounters::new(&shared.totals));
    let task = crate::follow::Task {
        shared: Arc::clone(shared),
        path: path.clone(),
        users: Arc::clone(&users),
        tell,
        asks: asked,
        counters: Arc::clone(&counters),
    };
    tokio::spawn(task.run(link));
    Arc::new(Entry { opened, users, asks, counters })
}
