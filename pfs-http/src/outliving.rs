//! Background continuation of a future that is dropped before it is ready.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// Future that becomes a task if it is dropped before it is ready. Spawning each future from the
/// start would cost two wake-ups: another thread of the runtime would wake to run the task, and the
/// first thread when the task is ready.
pub(super) struct Outliving<T: Send + 'static> {
    /// `None` once the future is ready or has panicked.
    work: Option<BoxFuture<'static, T>>,
    runtime: Handle,
}

impl<T: Send + 'static> Outliving<T> {
    /// Wraps `work`, which continues in the current runtime if the wrapper is dropped.
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), runtime: Handle::current() }
    }
}

impl<T: Send + 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Put back only if the future is to be polled again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_dropped_future_continues_as_a_task_unless_it_was_ready() {
        let (go, goes) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut outliving = Outliving::new(async move {
            goes.await.unwrap();
            done.send(()).unwrap();
        });
        assert!((&mut outliving).now_or_never().is_none());
        drop(outliving);
        go.send(()).unwrap();
        is_done.await.unwrap();
        assert_eq!(Outliving::new(async { 7 }).await, 7);
    }
}
