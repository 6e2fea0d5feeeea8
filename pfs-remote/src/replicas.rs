//! The replicas of a mount, by path: each exists once, however many clients ask for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pfs_client::LinkReader;
use pfs_host::{Failure, mount::Blocking};
use pfs_proto::StreamPath;
use pfs_stream::Stream;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{mount::Shared, policy::Ask};

/// What became of an attempt to open a replica: the stream; `None` if the owner has none; a failure.
pub(crate) type Opened = Result<Option<Stream>, Failure>;

/// A replica that is open or being opened.
#[derive(Debug)]
pub(crate) struct Entry {
    opened: watch::Receiver<Option<Opened>>,
    /// Told each time a client asks for the replica.
    pub(crate) used: Arc<Notify>,
    asks: mpsc::UnboundedSender<Ask>,
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
        link: Option<LinkReader>,
    ) -> Opened {
        let entry = {
            let mut entries = self.lock();
            match entries.get(path) {
                Some(entry) => Arc::clone(entry),
                None => {
                    let entry = begin(shared, path, link);
                    entries.insert(path.clone(), Arc::clone(&entry));
                    entry
                }
            }
        };
        entry.used.notify_one();
        let mut opened = entry.opened.clone();
        let outcome = match opened.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            // The task has ended without an outcome.
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Err(shared.owner.unreachable("the link has ended")))
    }

    /// Makes the link of a replica that is open a `block` reader at the owner.
    pub(crate) async fn block(&self, path: &StreamPath) -> Result<Blocking, Failure> {
        let entry = self.lock().get(path).cloned();
        let Some(entry) = entry else { return Ok(Blocking::default()) };
        let (ask, answer) = oneshot::channel();
        // A link that has ended, with its stream, blocks nobody.
        let _ = entry.asks.send(ask);
        answer.await.unwrap_or_else(|_| Ok(Blocking::default()))
    }

    /// Forgets the replica with this stream, so that the next client opens it anew.
    pub(crate) fn remove(&self, path: &StreamPath, stream: &Stream) {
        let mut entries = self.lock();
        let is_it = |entry: &Arc<Entry>| match &*entry.opened.borrow() {
            Some(Ok(Some(known))) => known.identity() == stream.identity(),
            _ => false,
        };
        if entries.get(path).is_some_and(is_it) {
            entries.remove(path);
        }
    }

    /// Forgets a replica, so that the next client opens it anew.
    pub(crate) fn forget(&self, path: &StreamPath, entry: &Notify) {
        let mut entries = self.lock();
        if entries.get(path).is_some_and(|known| std::ptr::eq(&raw const *known.used, entry)) {
            entries.remove(path);
        }
    }
}

fn begin(shared: &Arc<Shared>, path: &StreamPath, link: Option<LinkReader>) -> Arc<Entry> {
    let (tell, opened) = watch::channel(None);
    let (asks, asked) = mpsc::unbounded_channel();
    let used = Arc::new(Notify::new());
    let task = crate::follow::Task {
        shared: Arc::clone(shared),
        path: path.clone(),
        used: Arc::clone(&used),
        tell,
        asks: asked,
    };
    tokio::spawn(task.run(link));
    Arc::new(Entry { opened, used, asks })
}
