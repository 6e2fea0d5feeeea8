//! Pending readers, which wait for a stream to be created.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pfs_proto::{Peer, ReadOptions};

use super::Registry;
use crate::{AttachError, Reader, Stream};

/// Where a registry leaves the reader for the task that waits for it.
#[derive(Debug)]
pub(crate) struct Slot {
    options: ReadOptions,
    peer: Peer,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    // Boxed because many slots wait and few are ready at a time.
    Ready(Box<Result<Reader, AttachError>>),
    Taken,
}

impl Slot {
    pub(crate) fn new(options: ReadOptions, peer: Peer) -> Self {
        Self { options, peer, state: Mutex::new(State::Waiting(None)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn attach(&self, stream: &Stream) {
        let ready = State::Ready(Box::new(stream.reader_of(self.options, self.peer)));
        if let State::Waiting(Some(waker)) = mem::replace(&mut *self.state(), ready) {
            waker.wake();
        }
    }
}

/// A pending reader: a future that is ready once the stream exists. Dropping it stops the wait.
#[derive(Debug)]
pub struct PendingReader {
    registry: Registry,
    name: String,
    slot: Arc<Slot>,
}

impl PendingReader {
    pub(crate) fn new(registry: Registry, name: String, slot: Arc<Slot>) -> Self {
        Self { registry, name, slot }
    }

    /// Whether the stream does not exist yet.
    pub fn is_waiting(&self) -> bool {
        matches!(*self.slot.state(), State::Waiting(_))
    }
}

impl Future for PendingReader {
    type Output = Result<Reader, AttachError>;

    /// # Panics
    ///
    /// The future is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state();
        match &mut *state {
            State::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ready(_) => match mem::replace(&mut *state, State::Taken) {
                State::Ready(reader) => Poll::Ready(*reader),
                State::Waiting(_) | State::Taken => unreachable!("matched just above"),
            },
            State::Taken => panic!("a pending reader was polled after it was ready"),
        }
    }
}

impl Drop for PendingReader {
    fn drop(&mut self) {
        if !self.is_waiting() {
            return;
        }
        let mut names = self.registry.inner.names();
        if let Some(slots) = names.pending.get_mut(&self.name) {
            slots.retain(|slot| !std::ptr::eq(slot.as_ptr(), Arc::as_ptr(&self.slot)));
            if slots.is_empty() {
                names.pending.remove(&self.name);
            }
        }
    }
}
