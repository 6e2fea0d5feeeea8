//! Polls a future once.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Returns the output of a future that is ready at its first poll, otherwise `None`. A future that
/// was passed by value is then dropped.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
