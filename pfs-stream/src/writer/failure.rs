//! Future that resolves when a stream stops accepting appends.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::Writer;
use crate::{
    WriteError,
    state::{Shared, refusal},
    sync::Arc,
    wait::Ticket,
};

impl Writer {
    /// Waits until the stream accepts no more appends. Returns the reason: the stream was closed or
    /// removed. For a writer that has nothing to append at the moment and still needs to know.
    ///
    /// The future does not borrow the writer, which can append meanwhile. Cancel safe. The future
    /// may be polled repeatedly beside other work: as long as the same task polls it, a poll costs
    /// one load.
    pub fn failure(&self) -> impl Future<Output = WriteError> + Send + 'static {
        Failure { shared: Arc::clone(&self.shared), ticket: Ticket::default(), sleeper: None }
    }
}

struct Failure {
    shared: Arc<Shared>,
    ticket: Ticket,
    /// The waker registered in the queue, once there is one.
    sleeper: Option<Waker>,
}

impl Future for Failure {
    type Output = WriteError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<WriteError> {
        let Self { shared, ticket, sleeper } = &mut *self;
        let check = || refusal(shared.status());
        // Only a wake-up empties the queue, so a registered waker need not be registered again.
        if sleeper.as_ref().is_some_and(|sleeper| sleeper.will_wake(cx.waker())) {
            return check().map_or(Poll::Pending, Poll::Ready);
        }
        *sleeper = Some(cx.waker().clone());
        shared.ends.poll(ticket, cx, check)
    }
}

impl Drop for Failure {
    fn drop(&mut self) {
        self.shared.ends.leave(&mut self.ticket);
    }
}
