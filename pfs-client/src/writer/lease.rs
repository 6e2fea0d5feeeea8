//! Appending under a lease, where the daemon grants one.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pfs_proto::{Reply, Request};
use pfs_stream::WriteError;

use super::Writer;
use crate::connection::say;
use crate::error::RequestError;
use crate::sharing::{Held, Lease, Taken};

impl Writer {
    /// Pushes a chunk under the lease; `None` if there is none, or none any more.
    pub(super) fn poll_push_leased(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
    ) -> Poll<Result<Option<bool>, WriteError>> {
        self.poll_leased(cx, |held, cx, queue| held.poll_push(cx, chunk, queue))
    }

    /// As [`poll_push_leased`](Self::poll_push_leased), for a chunk that is read from a file.
    pub(super) fn poll_push_leased_from(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<Option<io::Result<usize>>, WriteError>> {
        let taken =
            ready!(self.poll_leased(cx, |held, cx, queue| held.poll_push_from(cx, file, most, queue)))?;
        Poll::Ready(Ok(taken.map(|taken| match taken? {
            Taken::Appended(len) => Ok(len),
            // What was read cannot be read again: it goes over the connection.
            Taken::Kept(bytes) => {
                let len = bytes.len();
                say(&Request::Append(Bytes::from(bytes)), &mut self.queue);
                self.appended = self.appended.saturating_add(1);
                Ok(len)
            }
        })))
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
                        self.appended = held.appended();
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

    /// Answers an offer of a lease. What was appended before comes before the answer.
    pub(super) fn answer_offer(&mut self) {
        if let Some(answer) = self.lease.answer() {
            say(&answer, &mut self.queue);
        }
    }

    /// Takes in what the daemon says of leases; false if it says something else.
    pub(super) fn hear_of_lease(&mut self, reply: &Reply) -> Result<bool, RequestError> {
        match *reply {
            Reply::LeaseOffer(layout) => match (&self.lease, self.connection.passed()) {
                (Lease::None, Some(passed)) => self.lease = Lease::offered(layout, passed),
                _ => return Ok(false),
            },
            Reply::Leased(start) => self.lease.begin(start, self.appended, self.connection.passed())?,
            Reply::Room => {
                if let Lease::Held(held) = &mut self.lease {
                    held.may_try_again();
                }
            }
            Reply::LeaseEnded { chunks, offset } => {
                if let Some(appended) = self.lease.end(chunks)? {
                    (self.acked, self.offset) = (self.acked.max(appended), self.offset.max(offset));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
