//! Work that goes on when nobody polls it any more.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// A future that becomes a task when it is dropped before it is ready. To make each a task from its
/// beginning would wake another thread of the runtime for each, and the first one when it is ready.
pub(super) struct Outliving<T: Send + 'static> {
    /// None once it is ready, or has panicked.
    work: Option<BoxFuture<'static, T>>,
    runtime: Handle,
}

impl<T: Send + 'static> Outliving<T> {
    /// Goes on in the runtime where this is called.
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), runtime: Handle::current() }
    }
}

impl<T: Send + 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Put back only if it is to be polled again.
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
    async fn what_is_dropped_before_it_is_ready_goes_on_and_what_was_ready_does_not() {
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
