//! Lease of the stream's ring buffer: the writer appends directly to shared memory.

use std::{
    io,
    os::fd::BorrowedFd,
    task::{Context, Poll, ready},
};

use pfs_proto::{LeaseStart, Request, RingLayout};
use pfs_stream::{
    WriteError,
    lease::{Holder, HolderError, MappedOffer},
};

use super::{Passed, room::Room};
use crate::{
    connection::say,
    error::{ProtocolError, RequestError},
};

/// The state of a lease.
#[derive(Debug)]
pub(crate) enum Lease {
    None,
    /// The offered ring buffer, or `None` if it cannot be mapped. The offer is not answered yet.
    Offered(Option<(MappedOffer, Room)>),
    /// The daemon was told that the ring buffer is mapped.
    Asked(MappedOffer, Room),
    Held(Box<Held>),
}

/// A granted lease. The daemon may have revoked the lease already; then its message is on the way.
#[derive(Debug)]
pub(crate) struct Held {
    holder: Holder,
    /// Chunks that the writer appended before the lease.
    before: u64,
    room: Room,
}

impl Lease {
    /// Maps the descriptors that came with the reply `LeaseOffer`.
    pub(crate) fn offered(layout: RingLayout, passed: &Passed) -> Self {
        let open = || {
            let (ring, asleep, room) = (passed.take()?, passed.take()?, passed.take()?);
            io::Result::Ok((
                MappedOffer::open(ring, asleep, layout)?,
                Room::new(room, passed.runtime())?,
            ))
        };
        Self::Offered(open().ok())
    }

    /// The answer to an offer, if there is one. Call this only where a message may begin.
    pub(crate) fn answer(&mut self) -> Option<Request> {
        let Self::Offered(mapped) = self else { return None };
        match mapped.take() {
            Some((mapped, room)) => {
                *self = Self::Asked(mapped, room);
                Some(Request::LeaseReady)
            }
            None => {
                *self = Self::None;
                Some(Request::CannotMap)
            }
        }
    }

    /// Starts the lease of a writer that has already appended `before` chunks without it.
    pub(crate) fn begin(
        &mut self,
        start: LeaseStart,
        before: u64,
        passed: Option<&Passed>,
    ) -> Result<(), RequestError> {
        let expected = || RequestError::unexpected("a valid lease after a request for one");
        let Self::Asked(mapped, room) = std::mem::replace(self, Self::None) else {
            return Err(expected());
        };
        let pages = (0..start.pages).map_while(|_| passed?.take().ok());
        let holder = mapped.begin(start, pages).ok_or_else(expected)?;
        *self = Self::Held(Box::new(Held { holder, before, room }));
        Ok(())
    }

    /// Ends the lease, under which the daemon counted `said` chunks. Returns the holder's state;
    /// `None` if the lease was not granted.
    pub(crate) fn end(&mut self, said: u64) -> Result<Option<Box<Held>>, RequestError> {
        match std::mem::replace(self, Self::None) {
            Self::Held(held) if held.holder.published() == said => Ok(Some(held)),
            Self::Held(held) => {
                Err(ProtocolError::Lease { said, counted: held.holder.published() }.into())
            }
            Self::Asked(..) => Ok(None),
            Self::None | Self::Offered(_) => {
                Err(RequestError::unexpected("a message that does not end a lease"))
            }
        }
    }
}

impl Held {
    /// Chunks appended by the writer in total, including chunks not yet published.
    pub(crate) fn appended(&self) -> u64 {
        self.before.saturating_add(self.holder.pushed())
    }

    /// Returns true if it is time to [publish](Self::publish) the pushed chunks.
    pub(crate) fn should_publish(&self) -> bool {
        self.holder.should_publish()
    }

    /// Chunks of the writer that are in the stream.
    pub(crate) fn published(&self) -> u64 {
        self.before.saturating_add(self.holder.published())
    }

    /// The chunks that the end of the lease kept out of the stream.
    pub(crate) fn unpublished(&self) -> impl Iterator<Item = Result<Vec<u8>, RequestError>> {
        self.holder.unpublished().map(|chunk| chunk.map_err(|_| ProtocolError::OtherWriter.into()))
    }

    /// Readers attached now.
    pub(crate) fn readers(&self) -> u32 {
        u32::try_from(self.holder.readers()).unwrap_or(u32::MAX)
    }

    /// Pushes a chunk if there is room and the lease is still held. Returns whether it is [time to
    /// publish](Self::should_publish) the pushed chunks.
    #[inline]
    pub(crate) fn try_push(&mut self, chunk: &[u8]) -> Option<bool> {
        self.holder.try_push(chunk).ok()?;
        Some(self.should_publish())
    }

    /// Like [`try_push`](Self::try_push), but waits for room. Also pending if the lease has ended:
    /// the daemon's next message then says how to continue, so the caller must listen to
    /// the daemon.
    pub(crate) fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
        queue: &mut Vec<u8>,
    ) -> Poll<Result<bool, WriteError>> {
        ready!(self.poll_with(cx, queue, |holder| holder.try_push(chunk)))?;
        Poll::Ready(Ok(self.should_publish()))
    }

    /// Like [`poll_push`](Self::poll_push), but reads the chunk from a file and returns its size.
    pub(crate) fn poll_push_from(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        most: usize,
        queue: &mut Vec<u8>,
    ) -> Poll<Result<io::Result<usize>, WriteError>> {
        self.poll_with(cx, queue, |holder| holder.try_push_from(file, most))
    }

    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut Vec<u8>,
        push: impl Fn(&mut Holder) -> Result<T, HolderError>,
    ) -> Poll<Result<T, WriteError>> {
        loop {
            return match push(&mut self.holder) {
                Ok(pushed) => {
                    self.room.end();
                    Poll::Ready(Ok(pushed))
                }
                Err(HolderError::Full { up_to }) => {
                    // Publish before waiting. The readers that take up the room may be asleep, or
                    // may have read everything that is published.
                    if self.publish(queue)? {
                        ready!(self.poll_room(cx, up_to, queue));
                        continue;
                    }
                    Poll::Pending
                }
                Err(HolderError::Ended) => Poll::Pending,
                Err(HolderError::TooLarge { size, max }) => {
                    Poll::Ready(Err(WriteError::TooLarge { size, max }))
                }
                Err(_) => Poll::Ready(Err(ProtocolError::OtherWriter.into())),
            };
        }
    }

    /// Waits for room after a push has failed. Ready once a retry may succeed: the push needs all
    /// `block` readers to have reached chunk `up_to`.
    fn poll_room(&mut self, cx: &mut Context<'_>, up_to: u64, queue: &mut Vec<u8>) -> Poll<()> {
        if !self.holder.waits_for_room(up_to) {
            return Poll::Ready(());
        }
        self.room.poll(cx, self.holder.asks_readers(), || say(&Request::NeedsRoom { up_to }, queue))
    }

    /// Records the daemon's answer that there is room.
    pub(crate) fn may_try_again(&mut self) {
        self.room.has_heard();
    }

    /// Publishes the pushed chunks and wakes sleeping shm readers. If readers inside the daemon
    /// sleep, queues a message to the daemon. Returns false if the lease has ended and some chunks
    /// stay [unpublished](Self::unpublished).
    #[inline]
    pub(crate) fn publish(&mut self, queue: &mut Vec<u8>) -> Result<bool, WriteError> {
        match self.holder.publish() {
            Ok(false) => Ok(true),
            Ok(true) => {
                say(&Request::Published, queue);
                Ok(true)
            }
            Err(HolderError::Ended) => Ok(false),
            Err(_) => Err(ProtocolError::OtherWriter.into()),
        }
    }
}
