//! Pieces: buffers of bytes on their way to a reader, at most one small piece at a time.

use std::{
    mem,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::buffers::Buffer;

/// Bytes to send. Dropping the piece frees its buffer.
///
/// Until then the session makes no other piece, unless the buffer is one of the few large
/// ones. Therefore a stalled reader costs one buffer, although the layers below could hold
/// several pieces.
#[derive(Debug)]
pub struct Piece {
    // Dropped before the next piece is requested, which may then get a large buffer.
    buffer: Buffer,
    _way: Option<Taken>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.bytes
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Piece> for Bytes {
    fn from(piece: Piece) -> Self {
        Self::from_owner(piece)
    }
}

/// Occupies the session's [`Way`] until dropped.
#[derive(Debug)]
struct Taken(Way);

impl Drop for Taken {
    fn drop(&mut self) {
        let waiting = mem::take(&mut *self.0.state()).waiting;
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Tracks the pieces of a session that are on their way to the client: one small piece at a time,
/// and any number of large ones. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Way(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: Option<Waker>,
}

impl Way {
    pub(super) fn send(&self, buffer: Buffer) -> Piece {
        let takes = !buffer.is_large();
        self.state().taken |= takes;
        Piece { buffer, _way: takes.then(|| Taken(self.clone())) }
    }

    /// Ready when another piece may be made.
    pub(super) fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.taken {
            return Poll::Ready(());
        }
        match &mut state.waiting {
            Some(waiting) => waiting.clone_from(cx.waker()),
            waiting => *waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
