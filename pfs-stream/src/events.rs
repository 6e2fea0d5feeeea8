//! What happens to a stream, told to whoever watches it, without anybody waiting for them.

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

/// So many events are kept for a watcher that is behind; of the rest it is told how many there
/// were.
const MAX_QUEUED_EVENTS: usize = 256;

/// Those who watch a stream. Costs whoever has something to tell a load while there are none.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// How many there are, readable without the lock.
    count: AtomicUsize,
    queues: Mutex<Vec<Arc<Queue>>>,
    /// Readers that were given a number.
    numbered: AtomicU64,
}

/// What one watcher was told and has not taken.
#[derive(Debug, Default)]
struct Queue(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    events: VecDeque<StreamEvent>,
    /// Events after these that were not kept.
    missed: u64,
    removed: bool,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    /// The number of the next reader.
    pub(crate) fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Puts an event where all will find it. To be called under the lock that decides the order of
    /// such events, and [`wake`](Self::wake) when it is released.
    pub(crate) fn tell(&self, event: StreamEvent) {
        if self.count.load(Relaxed) > 0 {
            for queue in lock(&self.queues).iter() {
                lock(&queue.0).tell(event);
            }
        }
    }

    /// Wakes those who have something to take.
    pub(crate) fn wake(&self) {
        if self.count.load(Relaxed) > 0 {
            let wakers: Vec<Waker> = lock(&self.queues)
                .iter()
                .filter_map(|queue| lock(&queue.0).waker_if_news())
                .collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// One more. If the stream is gone already, it is told that.
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

/// What happens to a stream, from [`Stream::events`](crate::Stream::events) on. Dropping it ends
/// the watching.
///
/// Nobody waits for it: when it is far behind, events are left out, and [`StreamEvent::Missed`]
/// tells in their place how many. That a stream was removed is never left out.
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
    /// The next event, however long it takes. After [`StreamEvent::Removed`] there is none: `None`,
    /// ever after.
    ///
    ///
    ///
    /// # Cancel safety
    ///
    /// An event is taken only if it was returned.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), but blocks the thread while it waits.
    pub fn next_blocking(&mut self) -> Option<StreamEvent> {
        pollster::block_on(self.next())
    }

    /// As [`next`](Self::next), for futures written by hand.
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

    /// The next event, if there is one now.
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
