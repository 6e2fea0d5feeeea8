//! Detached responses: the rest of an HTTP/1.1 response, sent without hyper.
//!
//! hyper holds 18 KiB for as long as its connection lives: 8 KiB to read, 8 KiB for heads, and the
//! map of the last response's headers. A reader of server-sent events is idle for most of its time.
//! Once the client has been sent all bytes so far, the body is detached: the hyper connection is
//! dropped, and [`send`] writes the rest in chunks (RFC 9112, section 7.1). When the response has
//! ended, a new hyper connection reads the next request.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::http::{HeaderMap, Method, Request, Response, Version, header};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{body::LastPiece, record::Recorded, sse};

/// Slot through which a detached body reaches its connection.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Full(Box<Recorded>),
    /// No further body is accepted.
    Closed,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the detached body, if there is one.
    pub(super) fn take(&self) -> Option<Box<Recorded>> {
        let mut state = self.state();
        match mem::take(&mut *state) {
            State::Full(body) => Some(body),
            before => {
                *state = before;
                None
            }
        }
    }

    /// Stops the detaching of bodies.
    pub(super) fn close(&self) {
        *self.state() = State::Closed;
    }
}

/// Whether the response to a request may be detached: the request has no body, and the connection
/// stays open after the response.
pub(super) fn is_possible<B: Body>(request: &Request<B>) -> bool {
    let goes_on = |headers: &HeaderMap| {
        let mut asked = headers.get_all(header::CONNECTION).iter();
        asked.all(|asked| asked.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
    };
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && goes_on(request.headers())
}

/// Whether a response is idle for most of its time, and is framed as [`send`] frames it: in chunks,
/// without trailers. The media type of the response is not enough to decide this: a stream of any
/// media type can be read as raw bytes.
pub(super) fn is_wanted<B: Body>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == sse::MEDIA_TYPE)
        && response.body().size_hint().exact().is_none()
        && !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRAILER)
}

/// Response body as hyper gets it.
#[derive(Debug)]
pub(super) struct Detachable {
    /// `None` once the body is detached.
    body: Option<Recorded>,
    slot: Option<Arc<Slot>>,
    /// Last piece that hyper got. Until there is one, the response head may be unwritten.
    last: Option<LastPiece>,
}

impl Detachable {
    /// Creates a body that moves into `slot` once it waits for its stream. Without a slot, the body
    /// is never detached.
    pub(super) fn new(body: Recorded, slot: Option<Arc<Slot>>) -> Self {
        Self { body: Some(body), slot, last: None }
    }
}

impl Body for Detachable {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Pending };
        let frame = Pin::new(body).poll_frame(cx);
        let Some(slot) = &this.slot else { return frame };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                let last = this.last.get_or_insert_default();
                Poll::Ready(Some(Ok(frame.map_data(|bytes| last.watch(bytes)))))
            }
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => {
                let is_written =
                    this.last.as_mut().is_some_and(|last| last.poll_sent(cx).is_ready());
                let mut state = slot.state();
                if is_written
                    && matches!(*state, State::Empty)
                    && let Some(body) = this.body.take()
                {
                    *state = State::Full(Box::new(body));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// Reason why a detached response did not end properly.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the body failed")]
    Body(#[source] axum::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Sends the rest of a response to its end.
///
/// # Errors
///
/// The body failed, or the connection broke. The client must be able to tell that the response
/// is incomplete.
pub(super) async fn send(
    io: &mut (impl AsyncWrite + Unpin),
    mut body: Box<Recorded>,
) -> Result<(), SendError> {
    // hyper has written all its bytes, but TLS may still hold some.
    io.flush().await?;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(SendError::Body)?.into_data() else { continue };
        // An empty chunk would end the body.
        if piece.is_empty() {
            continue;
        }
        let size = format!("{:X}\r\n", piece.len());
        let mut chunk = size.as_bytes().chain(piece).chain(&b"\r\n"[..]);
        io.write_all_buf(&mut chunk).await?;
        io.flush().await?;
        drop(chunk);
        give_way().await;
    }
    io.write_all(b"0\r\n\r\n").await?;
    io.flush().await?;
    Ok(())
}

/// Yields once to the tasks that are ready. Events that arrive meanwhile are sent together: without
/// this, a burst of small events took a third more system calls.
async fn give_way() {
    let mut has_given_way = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        // Not tokio's `yield_now`, which polls the system for I/O events first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
