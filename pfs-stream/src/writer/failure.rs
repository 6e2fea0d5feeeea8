//! Waiting for the end of a stream as a writer: for the moment when it takes no more appends.

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
    /// Waits until the stream takes no more appends, and tells why: it was closed, or removed. For
    /// a writer that has nothing to append at the moment and still wants to know.
    ///
    /// The future is apart from the writer, which can append meanwhile. Cancel safe. It may be
    /// polled again and again beside other work: as long as the same task polls it, that costs
    /// a load.
    pub fn failure(&self) -> impl Future<Output = WriteError> + Send + 'static {
        Failure { shared: Arc::clone(&self.shared), ticket: Ticket::default(), sleeper: None }
    }
}

struct Failure {
    shared: Arc<Shared>,
    ticket: Ticket,
    /// Whom the place in the queue wakes, once there is one.
    sleeper: Option<Waker>,
}

impl Future for Failure {
    type Output = WriteError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<WriteError> {
        let Self { shared, ticket, sleeper } = &mut *self;
        let check = || refusal(shared.status());
        // The queue is emptied only when there is news, so that a place in it need not be taken
        // again before.
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
