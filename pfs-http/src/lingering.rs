//! Lingering over HTTP/2: the rest of a request's body that was answered before its end is read and
//! thrown away for a while. [`linger`](super::socket::linger) does so for a whole connection over
//! HTTP/1.1.
//!
//! Dropping a body resets its stream. A client that is still sending, such as curl, may then lose
//! the answer that came before the reset.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

use super::socket::LINGER_TIMEOUT;

/// A body whose rest is read for a while after it was dropped.
#[derive(Debug)]
pub(super) struct Lingering<B: Body + Send + Unpin + 'static> {
    body: Option<B>,
    lingers: bool,
}

impl<B: Body + Send + Unpin> Lingering<B> {
    /// `lingers` is false for a body whose connection lingers.
    pub(super) fn new(body: B, lingers: bool) -> Self {
        Self { body: Some(body), lingers }
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.lingers && !body.is_end_stream());
        // Without a runtime there is no connection to answer on.
        let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) else { return };
        runtime.spawn(async move {
            let drained = async {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {}
            };
            // A client that goes on sending gets the reset.
            let _ = timeout(LINGER_TIMEOUT, drained).await;
        });
    }
}

impl<B: Body + Send + Unpin> Body for Lingering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
