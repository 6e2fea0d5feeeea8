//! Wait queue: tasks and threads sleep until they are woken, without a runtime. Waking costs a
//! fence and a load while there are no sleepers.
//!
//! The waking side publishes its news, issues a full fence and reads the number of sleepers. The
//! sleeping side enters the queue, issues a full fence and checks for news once more. Whichever
//! fence comes first, one side sees the other: no wake-up is missed (checked with loom).

use std::{
    mem,
    task::{Context, Poll, Waker},
};

use crate::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// The sleepers that wait for one kind of news.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    /// Number of occupied places in the queue, readable without the queue's lock.
    sleepers: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Counts how often the queue was emptied: a ticket of an earlier round holds no place.
    round: u64,
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// An emptied vector, kept so that a round of waking need not allocate.
    spare: Vec<Option<Waker>>,
}

/// A place in a [`WaitQueue`], owned by one waiter, which gives it back on drop.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<(u64, usize)>);

impl WaitQueue {
    pub(crate) fn new() -> Self {
        Self { sleepers: AtomicUsize::new(0), queue: Mutex::new(Queue::default()) }
    }

    /// Polls `check` before and after entering the queue, so that news in between is not missed.
    pub(crate) fn poll<T>(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
        mut check: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        if let Some(news) = check() {
            return Poll::Ready(news);
        }
        self.enter(ticket, cx.waker());
        match check() {
            Some(news) => {
                self.leave(ticket);
                Poll::Ready(news)
            }
            None => Poll::Pending,
        }
    }

    fn enter(&self, ticket: &mut Ticket, waker: &Waker) {
        let mut queue = lock(&self.queue);
        let place = match ticket.0 {
            Some((round, place)) if round == queue.round => place,
            _ => {
                let place = queue.free.pop().unwrap_or(queue.places.len());
                if place == queue.places.len() {
                    queue.places.push(None);
                }
                self.sleepers.fetch_add(1, Ordering::Relaxed);
                ticket.0 = Some((queue.round, place));
                place
            }
        };
        if let Some(entry) = queue.places.get_mut(place) {
            match entry {
                Some(known) => known.clone_from(waker),
                None => *entry = Some(waker.clone()),
            }
        }
        drop(queue);
        fence(Ordering::SeqCst);
    }

    /// Gives the place back, if the ticket holds one.
    pub(crate) fn leave(&self, ticket: &mut Ticket) {
        let Some((round, place)) = ticket.0.take() else {
            return;
        };
        let mut queue = lock(&self.queue);
        if round == queue.round {
            if let Some(entry) = queue.places.get_mut(place) {
                *entry = None;
            }
            queue.free.push(place);
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns true if there are sleepers. Call after the news was published.
    pub(crate) fn has_sleepers(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    /// Wakes all sleepers. Costs a fence and a load if there are none.
    #[inline]
    pub(crate) fn wake_all(&self) {
        if self.has_sleepers() {
            self.wake_sleepers();
        }
    }

    /// A separate cold function, because there are usually no sleepers.
    #[cold]
    fn wake_sleepers(&self) {
        let mut queue = lock(&self.queue);
        queue.round += 1;
        queue.free.clear();
        let empty = mem::take(&mut queue.spare);
        let mut woken = mem::replace(&mut queue.places, empty);
        self.sleepers.store(0, Ordering::Relaxed);
        drop(queue);
        // Wake outside the lock: a waker may run the waiter at once, and the waiter enters the
        // queue again.
        for waker in woken.drain(..).flatten() {
            waker.wake();
        }
        lock(&self.queue).spare = woken;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize as Count, Ordering::Relaxed},
    };

    #[derive(Default)]
    struct Woken(Count);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn waiters_that_leave_free_their_places() {
        let queue = WaitQueue::new();
        let waker = Waker::noop();
        for _ in 0..1000 {
            let mut ticket = Ticket::default();
            assert!(
                queue
                    .poll(&mut ticket, &mut Context::from_waker(waker), || None::<()>)
                    .is_pending()
            );
            queue.leave(&mut ticket);
        }
        assert_eq!(lock(&queue.queue).places.len(), 1);
        assert!(!queue.has_sleepers());
    }

    #[test]
    fn a_wake_reaches_every_sleeper_and_no_waiter_that_left() {
        let queue = WaitQueue::new();
        let stays = Arc::new(Woken::default());
        let leaves = Arc::new(Woken::default());
        let (mut first, mut second) = (Ticket::default(), Ticket::default());
        let (a, b) = (Waker::from(Arc::clone(&stays)), Waker::from(Arc::clone(&leaves)));
        for _ in 0..3 {
            assert!(
                queue.poll(&mut first, &mut Context::from_waker(&a), || None::<()>).is_pending()
            );
        }
        assert!(queue.poll(&mut second, &mut Context::from_waker(&b), || None::<()>).is_pending());
        queue.leave(&mut second);
        queue.wake_all();
        queue.wake_all();
        assert_eq!((stays.0.load(Relaxed), leaves.0.load(Relaxed)), (1, 0));
    }
}
