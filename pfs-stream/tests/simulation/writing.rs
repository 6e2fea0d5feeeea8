//! A writer of a stream, which may wait for `block` readers as a task of an executor does.

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

/// What an append that waits comes to, with the writer; `None` if it was cancelled.
type Waited = (Writer, Option<Result<(), WriteError>>);

/// An append that waits for room.
pub(crate) struct Waiting {
    future: Pin<Box<dyn Future<Output = Waited>>>,
    notice: Arc<Notice>,
    is_cancelled: Rc<Cell<bool>>,
    blockers: Blockers,
    pub(crate) chunk: Chunk,
    /// What is to be appended after it.
    pub(crate) rest: VecDeque<Chunk>,
}

pub(crate) enum Writing {
    Idle(Writer),
    Waiting(Waiting),
    /// It was offered a lease, has one, or has lost one.
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

    /// For a chunk that is appended before the others.
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
        // One that nobody has polled yet is to be polled.
        waker.wake();
        Self { future, notice, is_cancelled, blockers, chunk, rest }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.notice.is_woken()
    }

    /// As an executor polls it.
    pub(crate) fn poll(&mut self) -> Poll<Waited> {
        let (notice, waker) = Notice::new();
        self.notice = notice;
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Gives the append up; nothing of it is in the stream.
    pub(crate) fn cancel(mut self) -> Writer {
        self.is_cancelled.set(true);
        match self.poll() {
            Poll::Ready((writer, None)) => writer,
            Poll::Ready((_, Some(done))) => panic!("{done:?}, though it was cancelled"),
            Poll::Pending => panic!("it waits, though it was cancelled"),
        }
    }

    /// Has the stream wait no longer for the slowest reader in the way.
    pub(crate) fn give_up_slowest(&self) -> Option<GivenUp> {
        self.blockers.give_up_slowest()
    }
}
