//! A writer of a stream, which may wait for `block` readers like a task of an executor.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use pfs_stream::*;

use crate::{ledger::Chunk, notice::Notice};

/// The result of an append that waits, with the writer; `None` if the append was cancelled.
type Waited = (Writer, Option<Result<(), WriteError>>);

/// An append that waits for room.
pub(crate) struct Waiting {
    future: Pin<Box<dyn Future<Output = Waited>>>,
    notice: Arc<Notice>,
    is_cancelled: Rc<Cell<bool>>,
    blockers: Blockers,
    pub(crate) chunk: Chunk,
    /// The chunks to append after it.
    pub(crate) rest: VecDeque<Chunk>,
}

pub(crate) enum Writing {
    Idle(Writer),
    Waiting(Waiting),
    /// The writer was offered a lease, has one, or has lost one.
    #[cfg(all(target_os = "linux", not(miri)))]
    Leased(Box<crate::leasing::Leased>),
}

impl Writing {
    /// The writer, if it appends through the stream and does not wait.
    pub(crate) fn idle(&mut self) -> Option<&mut Writer> {
        match self {
            Self::Idle(writer) => Some(writer),
            Self::Waiting(_) => None,
            #[cfg(all(target_os = "linux", not(miri)))]
            Self::Leased(leased) => match &mut **leased {
                crate::leasing::Leased::Offered(offered) => Some(&mut offered.writer),
                _ => None,
            },
        }
    }
}

impl Waiting {
    pub(crate) fn new(writer: Writer, chunk: Chunk) -> Self {
        Self::before(writer, chunk, VecDeque::new())
    }

    /// An append of a chunk that comes before others.
    pub(crate) fn before(mut writer: Writer, chunk: Chunk, rest: VecDeque<Chunk>) -> Self {
        let blockers = writer.blockers();
        let is_cancelled = Rc::new(Cell::new(false));
        let cancelled = Rc::clone(&is_cancelled);
        let future = Box::pin(async move {
            let done = {
                let mut append = pin!(writer.append(chunk.bytes()));
                poll_fn(|cx| {
                    if cancelled.get() {
                        Poll::Ready(None)
                    } else {
                        append.as_mut().poll(cx).map(Some)
                    }
                })
                .await
            };
            (writer, done)
        });
        let (notice, waker) = Notice::new();
        // A new append must be polled once.
        waker.wake();
        Self { future, notice, is_cancelled, blockers, chunk, rest }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.notice.is_woken()
    }

    /// Polls the append as an executor does.
    pub(crate) fn poll(&mut self) -> Poll<Waited> {
        let (notice, waker) = Notice::new();
        self.notice = notice;
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Cancels the append; no part of it is in the stream.
    pub(crate) fn cancel(mut self) -> Writer {
        self.is_cancelled.set(true);
        match self.poll() {
            Poll::Ready((writer, None)) => writer,
            Poll::Ready((_, Some(done))) => panic!("{done:?} although the append was cancelled"),
            Poll::Pending => panic!("the append waits although it was cancelled"),
        }
    }

    /// Makes the stream stop waiting for the slowest reader in the way.
    pub(crate) fn give_up_slowest(&self) -> Option<GivenUp> {
        self.blockers.give_up_slowest()
    }
}
