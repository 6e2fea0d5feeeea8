//! Stream events: tells watchers what happens to a stream. The stream never waits for a watcher.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use pfs_proto::StreamEvent;

/// Events queued for a slow watcher. Later events are counted but not kept.
const MAX_QUEUED_EVENTS: usize = 256;

/// The watchers of a stream. Costs one load per event while there are none.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// Number of watchers, readable without the lock.
    count: AtomicUsize,
    queues: Mutex<Vec<Arc<Queue>>>,
    /// The number that was last given to a reader.
    numbered: AtomicU64,
}

/// The events that one watcher has not taken yet.
#[derive(Debug, Default)]
struct Queue(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    events: VecDeque<StreamEvent>,
    /// Number of later events, which were counted but not kept.
    missed: u64,
    removed: bool,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    /// Assigns the next reader number.
    pub(crate) fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Queues an event for every watcher. Call under the lock that decides the order of these
    /// events, and call [`wake`](Self::wake) after releasing that lock.
    pub(crate) fn tell(&self, event: StreamEvent) {
        if self.count.load(Relaxed) > 0 {
            for queue in lock(&self.queues).iter() {
                lock(&queue.0).tell(event);
            }
        }
    }

    /// Wakes the watchers that have events to take.
    pub(crate) fn wake(&self) {
        if self.count.load(Relaxed) > 0 {
            let wakers: Vec<Waker> = lock(&self.queues)
                .iter()
                .filter_map(|queue| lock(&queue.0).waker_if_news())
                .collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Adds a watcher. `removed` says that the stream is gone already; the watcher is told so.
    pub(crate) fn watch(self: &Arc<Self>, removed: bool) -> Events {
        let queue = Arc::<Queue>::default();
        lock(&queue.0).removed = removed;
        lock(&self.queues).push(Arc::clone(&queue));
        self.count.fetch_add(1, Relaxed);
        Events { watchers: Arc::clone(self), queue, ended: false }
    }
}

impl Told {
    fn tell(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Removed => self.removed = true,
            event if self.missed == 0 && self.events.len() < MAX_QUEUED_EVENTS => {
                self.events.push_back(event)
            }
            _ => self.missed = self.missed.saturating_add(1),
        }
    }

    fn waker_if_news(&mut self) -> Option<Waker> {
        let news = self.removed || self.missed > 0 || !self.events.is_empty();
        if news { self.waker.take() } else { None }
    }

    fn take(&mut self) -> Option<StreamEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match mem::take(&mut self.missed) {
            0 => self.removed.then_some(StreamEvent::Removed),
            count => Some(StreamEvent::Missed { count }),
        }
    }
}

/// Events of a stream, from the call of [`Stream::events`](crate::Stream::events) on. Dropping this
/// value stops watching.
///
/// The stream does not wait for a watcher. When a watcher is too far behind, events are left out,
/// and [`StreamEvent::Missed`] in their place tells how many. [`StreamEvent::Removed`] is never
/// left out.
///
/// ```
/// # use pfs_stream::*;
/// let stream = Stream::new("cam", StreamConfig::default())?;
/// let mut events = stream.events();
/// let reader = stream.reader(ReadOptions::default())?;
/// drop(reader);
/// assert!(matches!(events.try_next(), Some(StreamEvent::Subscribed { reader: 1, readers: 1, .. })));
/// assert_eq!(events.try_next(), Some(StreamEvent::FirstReader));
/// assert!(matches!(events.try_next(), Some(StreamEvent::Unsubscribed { reader: 1, readers: 0, .. })));
/// assert_eq!(events.try_next(), Some(StreamEvent::NoReaders));
/// assert_eq!(events.try_next(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Events {
    watchers: Arc<Watchers>,
    queue: Arc<Queue>,
    ended: bool,
}

impl Events {
    /// Waits for the next event. Returns `None` after [`StreamEvent::Removed`].
    ///
    /// # Cancel safety
    ///
    /// An event is taken only if it was returned.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Like [`next`](Self::next), but blocks the thread while it waits.
    pub fn next_blocking(&mut self) -> Option<StreamEvent> {
        pollster::block_on(self.next())
    }

    /// Polls for the next event, for hand-written futures. Otherwise like [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut told = lock(&self.queue.0);
        match told.take() {
            Some(event) => {
                self.ended = event == StreamEvent::Removed;
                Poll::Ready(Some(event))
            }
            None => {
                told.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Returns the next event if there is one now. Does not wait.
    pub fn try_next(&mut self) -> Option<StreamEvent> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Events {
    type Item = StreamEvent;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<StreamEvent>> {
        Self::poll_next(self.get_mut(), cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        lock(&self.watchers.queues).retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.watchers.count.fetch_sub(1, Relaxed);
    }
}
