//! Response body that follows a stream.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pfs_host::{Broken, Encoder, Follow, wide};
use tokio::sync::oneshot;

use super::trailers;

/// Session that follows a stream, as the body of a response.
pub(crate) struct Following<E> {
    follow: Follow<E>,
    state: State,
    sent: LastPiece,
    /// Bytes to send before those of the stream.
    prefix: Bytes,
    /// Bytes still to come, if known.
    length: Option<u64>,
    /// Whether trailers say how the stream ended.
    trailers: bool,
}

/// State of a body.
#[derive(Debug)]
enum State {
    Following,
    /// The session failed. The error waits until the last bytes are written, because the server
    /// drops them when a body fails.
    Breaking(Broken),
    Ended,
}

/// Watches the last piece of a body until it has been written to the connection: the server drops
/// the piece then. A client that reads slowly may take as long as it likes.
#[derive(Debug, Default)]
pub(crate) struct LastPiece(Option<oneshot::Receiver<()>>);

/// Piece that has not been written yet.
struct Piece {
    bytes: Bytes,
    /// Dropped with the piece, which wakes the receiver.
    _sent: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl LastPiece {
    /// Makes `bytes` the last piece.
    pub(crate) fn watch(&mut self, bytes: Bytes) -> Bytes {
        let (sent, is_sent) = oneshot::channel();
        self.0 = Some(is_sent);
        Bytes::from_owner(Piece { bytes, _sent: sent })
    }

    /// Ready once the last piece is written.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sent) = &mut self.0 {
            let _: Result<(), _> = ready!(Pin::new(sent).poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl<E: Encoder> Following<E> {
    pub(crate) fn new(follow: Follow<E>) -> Self {
        Self {
            follow,
            state: State::Following,
            sent: LastPiece::default(),
            prefix: Bytes::new(),
            length: None,
            trailers: false,
        }
    }

    /// Sends `prefix` before the bytes of the stream.
    pub(crate) fn with_prefix(self, prefix: Bytes) -> Self {
        Self { prefix, ..self }
    }

    /// Promises that exactly `length` bytes follow the prefix; otherwise the body breaks.
    pub(crate) fn with_length(mut self, length: u64) -> Self {
        self.owes(length.saturating_add(wide(self.prefix.len())));
        self
    }

    /// Sets whether trailers follow a proper end and say how the stream ended.
    pub(crate) fn with_trailers(self, trailers: bool) -> Self {
        Self { trailers, ..self }
    }

    fn owes(&mut self, length: u64) {
        self.length = Some(length);
        if length == 0 {
            // The server does not poll a body that owes no more bytes.
            self.follow.is_answered();
        }
    }
}

impl<E: Encoder> Body for Following<E> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match mem::replace(&mut this.state, State::Ended) {
            State::Ended => return Poll::Ready(None),
            State::Breaking(broken) => {
                if this.sent.poll_sent(cx).is_pending() {
                    this.state = State::Breaking(broken);
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(broken)));
            }
            State::Following => {}
        }
        this.state = State::Following;
        if !this.prefix.is_empty() {
            let prefix = mem::take(&mut this.prefix);
            if let Some(left) = this.length {
                this.owes(left.saturating_sub(wide(prefix.len())));
            }
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        match ready!(this.follow.poll_piece(cx)) {
            None => {
                this.state = State::Ended;
                let end = this.follow.end().filter(|_| this.trailers);
                Poll::Ready(end.map(|(end, offset)| Ok(Frame::trailers(trailers::at(end, offset)))))
            }
            Some(Err(broken)) => {
                this.state = State::Breaking(broken);
                // The head of the response is not a piece. The server sends the head on its
                // next turn.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(piece)) => {
                if let Some(left) = this.length {
                    this.owes(left.saturating_sub(wide(piece.len())));
                }
                let piece = this.sent.watch(piece.into());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
