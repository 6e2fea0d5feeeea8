//! Appending under a lease that the daemon granted.

use std::{
    io,
    os::fd::BorrowedFd,
    task::{Context, Poll, ready},
};

use pfs_proto::Reply;
use pfs_stream::WriteError;

use super::Writer;
use crate::{
    connection::say,
    error::RequestError,
    shm::{Held, Lease},
};

impl Writer {
    /// Pushes a chunk under the lease. `None` if there is no lease or the lease has ended.
    pub(super) fn poll_push_leased(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Poll<Result<Option<bool>, WriteError>> {
        self.poll_leased(cx, |held, cx, queue| held.poll_push(cx, chunk, queue))
    }

    /// Like [`poll_push_leased`](Self::poll_push_leased), but reads the chunk from a file and
    /// returns its size.
    pub(super) fn poll_push_leased_from(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<Option<io::Result<usize>>, WriteError>> {
        self.poll_leased(cx, |held, cx, queue| held.poll_push_from(cx, file, most, queue))
    }

    fn poll_leased<T>(
        &mut self,
        cx: &mut Context<'_>,
        push: impl Fn(&mut Held, &mut Context<'_>, &mut Vec<u8>) -> Poll<Result<T, WriteError>>,
    ) -> Poll<Result<Option<T>, WriteError>> {
        loop {
            self.answer_offer();
            match &mut self.lease {
                Lease::None => return Poll::Ready(Ok(None)),
                Lease::Held(held) => match push(held, cx, &mut self.queue) {
                    Poll::Ready(Ok(pushed)) => {
                        let before = std::mem::replace(&mut self.appended, held.appended());
                        if self.appended > before {
                            self.say_mark(before);
                        }
                        return Poll::Ready(Ok(Some(pushed)));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.remember(error))),
                    Poll::Pending => {}
                },
                Lease::Offered(_) | Lease::Asked(..) => {}
            }
            let heard = self.heard;
            ready!(self.poll_send(cx, &mut &[][..]))?;
            if self.heard == heard {
                return Poll::Pending;
            }
        }
    }

    /// Publishes or sends all pushed chunks. If the lease was revoked, waits for the daemon's
    /// message about that first.
    pub(super) fn poll_send_pushed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        loop {
            let published = match &mut self.lease {
                Lease::Held(held) => held.publish(&mut self.queue),
                _ => Ok(true),
            };
            let published = match published {
                Ok(published) => published,
                Err(error) => return Poll::Ready(Err(self.remember(error))),
            };
            let heard = self.heard;
            ready!(self.poll_send(cx, &mut &[][..]))?;
            if published {
                return Poll::Ready(Ok(()));
            }
            if self.heard == heard {
                return Poll::Pending;
            }
        }
    }

    /// Answers the offer of a lease. Chunks appended before precede the answer.
    pub(super) fn answer_offer(&mut self) {
        if let Some(answer) = self.lease.answer() {
            say(&answer, &mut self.queue);
        }
    }

    /// Processes the daemon's messages about leases. Returns false for any other message.
    pub(super) fn hear_of_lease(&mut self, reply: &Reply) -> Result<bool, RequestError> {
        match *reply {
            Reply::LeaseOffer(layout) => match (&self.lease, self.connection.passed()) {
                (Lease::None, Some(passed)) => self.lease = Lease::offered(layout, passed),
                _ => return Ok(false),
            },
            Reply::Leased(start) => {
                self.lease.begin(start, self.appended, self.connection.passed())?
            }
            Reply::Room => {
                if let Lease::Held(held) = &mut self.lease {
                    held.may_try_again();
                }
            }
            Reply::LeaseEnded { chunks, offset } => {
                if let Some(held) = self.lease.end(chunks)? {
                    self.acked = self.acked.max(held.published());
                    self.offset = self.offset.max(offset);
                    for chunk in held.unpublished() {
                        self.queue_chunk(&chunk?);
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
