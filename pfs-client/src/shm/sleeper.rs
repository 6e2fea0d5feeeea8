//! Sleeper thread: lets async code wait on a ring buffer's notifier.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use pfs_stream::shm::Notifier;

use super::sleep::Sleep;

/// A thread that sleeps on a notifier and wakes one task. An event loop cannot wait for a
/// futex itself.
#[derive(Debug)]
pub(crate) struct Sleeper {
    notifier: Notifier,
    orders: Arc<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Sleep as long as the notifier has this count.
    Sleep {
        count: u32,
        waker: Waker,
    },
    Stop,
}

impl Orders {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleeper {
    pub(crate) fn new(notifier: Notifier) -> io::Result<Self> {
        let orders = Arc::<Orders>::default();
        let (theirs, their_notifier) = (Arc::clone(&orders), notifier.clone());
        thread::Builder::new()
            .name("pfs-sleeper".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || run(&theirs, &their_notifier))?;
        Ok(Self { notifier, orders })
    }

    /// Ready once the notifier was notified after `count`.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, count: u32) -> Poll<()> {
        if self.notifier.count() != count {
            return Poll::Ready(());
        }
        let mut state = self.orders.state();
        match &mut *state {
            State::Sleep { count: before, waker } if *before == count => {
                waker.clone_from(cx.waker())
            }
            state => {
                *state = State::Sleep { count, waker: cx.waker().clone() };
                self.orders.changed.notify_one();
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        *self.orders.state() = State::Stop;
        self.orders.changed.notify_one();
        self.notifier.wake_sleepers();
    }
}

fn run(orders: &Orders, notifier: &Notifier) {
    let mut sleep = Sleep::new(notifier.clone());
    let mut state = orders.state();
    loop {
        match &*state {
            State::Stop => return,
            State::Idle => {
                state = orders.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            State::Sleep { count, .. } if notifier.count() == *count => {
                let count = *count;
                drop(state);
                // A wake-up just before the thread falls asleep is missed. That is harmless,
                // because the thread also wakes periodically.
                sleep.sleep(count);
                state = orders.state();
            }
            State::Sleep { .. } => {
                if let State::Sleep { waker, .. } = std::mem::take(&mut *state) {
                    drop(state);
                    waker.wake();
                    state = orders.state();
                }
            }
        }
    }
}
