//! A stream as the body of a response.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pfs_host::{Broken, Encoder, Follow, wide};

/// A session that follows a stream, as the body of a response.
pub(crate) struct Following<E> {
    follow: Follow<E>,
    state: State,
    /// Bytes still to come, where that is known.
    length: Option<u64>,
}

/// How far a body is.
#[derive(Debug)]
enum State {
    Following,
    /// The error waits for one turn: it must not overtake the last bytes, which the server drops when a body fails.
    Breaking(Broken),
    Ended,
}

impl<E: Encoder> Following<E> {
    pub(crate) fn new(follow: Follow<E>) -> Self {
        Self { follow, state: State::Following, length: None }
    }

    /// The body will have exactly this many bytes, or break.
    pub(crate) fn with_length(mut self, length: u64) -> Self {
        self.owes(length);
        self
    }

    fn owes(&mut self, length: u64) {
        self.length = Some(length);
        if length == 0 {
            // The server asks such a body for no more.
            self.follow.is_answered();
        }
    }
}

impl<E: Encoder> Body for Following<E> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match mem::replace(&mut this.state, State::Ended) {
            State::Ended => return Poll::Ready(None),
            State::Breaking(broken) => return Poll::Ready(Some(Err(broken))),
            State::Following => {}
        }
        this.state = State::Following;
        match ready!(this.follow.poll_piece(cx)) {
            None => {
                this.state = State::Ended;
                Poll::Ready(None)
            }
            Some(Err(broken)) => {
                this.state = State::Breaking(broken);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(piece)) => {
                if let Some(left) = this.length {
                    this.owes(left.saturating_sub(wide(piece.len())));
                }
                Poll::Ready(Some(Ok(Frame::data(this.follow.lend(piece)))))
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
