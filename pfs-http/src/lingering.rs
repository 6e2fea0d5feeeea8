//! Lingering over HTTP/2: if a request is answered before the end of its body, the rest of the body
//! is read and discarded for a while. [`linger`](super::socket::linger) does so for a whole
//! HTTP/1.1 connection.
//!
//! Dropping a body resets its HTTP/2 stream. A client that is still sending, such as curl, may then
//! lose the response that arrived before the reset.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

use super::socket::LINGER_TIMEOUT;

/// Request body whose rest is read for a while after the body was dropped.
#[derive(Debug)]
pub(super) struct Lingering<B: Body + Send + Unpin + 'static> {
    body: Option<B>,
    lingers: bool,
}

impl<B: Body + Send + Unpin> Lingering<B> {
    /// Wraps a body. `lingers` is false for a body over HTTP/1.1, where the connection lingers.
    pub(super) fn new(body: B, lingers: bool) -> Self {
        Self { body: Some(body), lingers }
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.lingers && !body.is_end_stream());
        // Without a runtime, there is no connection that could answer.
        let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) else { return };
        runtime.spawn(async move {
            let drained = async {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {}
            };
            // A client that goes on sending after the timeout gets the reset.
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
