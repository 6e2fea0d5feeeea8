//! A connection of frames with its two buffers: requests in, replies out.

use std::{io, os::fd::BorrowedFd};

use bytes::{Buf, BytesMut};
use pfs_proto::{Decoder, ErrorCode, Frame, Reply};
use pfs_stream::{Budget, Reservation};

use crate::{
    daemon::wide,
    failure::{Ended, Failure},
    poll::poll_once,
    refusals::Reason,
    transport::Transport,
};

/// The largest read, in bytes: large enough to make system calls cheap, small enough for thousands
/// of writers.
const MAX_READ_BYTES: usize = 128 * 1024;

/// The smallest read buffer of a waiting connection.
const MIN_READ_BYTES: usize = 16 * 1024;

/// Size of an unfinished message that is not charged to the budget. Every connection may have one.
const UNCHARGED: usize = 4 * 1024;

/// One client's connection. Methods are cancel safe unless their documentation says otherwise: the
/// bytes that were read or written so far are remembered.
#[derive(Debug)]
pub(crate) struct Wire<T> {
    transport: T,
    decoder: Decoder,
    /// Replies that are not written yet.
    out: BytesMut,
    /// Doubles while reads fill the buffer, so that only busy connections get a large one.
    read_size: usize,
    /// Budget charge for an unfinished message.
    unfinished: Unfinished,
    /// Whether memory can be shared with the client: descriptors can go along with replies.
    pub(crate) sharing: bool,
    /// Whether the client follows a stream to its next ring.
    pub(crate) following: bool,
    /// Whether the client resumes over another connection when this one breaks.
    pub(crate) resuming: bool,
    /// Whether the client supports leases.
    pub(crate) leasing: bool,
    /// Whether the client supports readers that join, and the stats of media.
    pub(crate) joining: bool,
    /// Whether the client may be a link.
    pub(crate) linking: bool,
}

impl<T: Transport> Wire<T> {
    /// Creates a connection whose unfinished messages are charged to `budget`.
    pub(crate) fn new(transport: T, budget: Budget) -> Self {
        Self {
            transport,
            decoder: Decoder::new(),
            out: BytesMut::new(),
            read_size: MIN_READ_BYTES,
            unfinished: Unfinished { budget, charged: None },
            sharing: false,
            following: false,
            resuming: false,
            leasing: false,
            joining: false,
            linking: false,
        }
    }

    /// Whether the client can hold a lease: it supports leases and shared memory.
    pub(crate) fn can_lease(&self) -> bool {
        self.sharing && self.leasing
    }

    /// The transport.
    pub(crate) fn transport(&self) -> &T {
        &self.transport
    }

    /// Takes the transport back when nothing more is sent.
    pub(crate) fn into_transport(self) -> T {
        self.transport
    }

    /// Waits for a whole frame. `None` when the client has ended its sending direction.
    pub(crate) async fn frame(&mut self) -> Result<Option<Frame>, Ended> {
        loop {
            if let Some(frame) = self.received()? {
                return Ok(Some(frame));
            }
            self.charge(0)?;
            // An idle connection keeps no buffer.
            self.decoder.release();
            self.transport.readable().await?;
            if self.fill()? == Some(0) {
                return Ok(None);
            }
        }
    }

    /// Takes a frame that has been read already.
    pub(crate) fn received(&mut self) -> Result<Option<Frame>, Ended> {
        Ok(self.decoder.next_frame()?)
    }

    /// Whether all received bytes have been taken as frames.
    pub(crate) fn input_is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    /// Reads available bytes without waiting. `Some(0)` when the client has ended its sending
    /// direction, `None` if no bytes are available now.
    pub(crate) fn fill(&mut self) -> io::Result<Option<usize>> {
        let buffer = self.decoder.buffer_for(self.read_size);
        let room = buffer.capacity().saturating_sub(buffer.len());
        match self.transport.try_read(buffer) {
            Ok(read) => {
                if read == room {
                    self.read_size = self.read_size.saturating_mul(2).min(MAX_READ_BYTES);
                }
                Ok(Some(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Charges the memory of an unfinished message: the incomplete frame, and `parts` bytes of a
    /// chunk that were taken before. Call this before the connection waits for more input.
    pub(crate) fn charge(&mut self, parts: usize) -> Result<(), Failure> {
        self.unfinished.charge(self.decoder.len().saturating_add(parts))
    }

    /// Queues a reply.
    pub(crate) fn put(&mut self, reply: &Reply) {
        reply.encode(&mut self.out);
    }

    /// Number of queued bytes.
    pub(crate) fn queued(&self) -> usize {
        self.out.len()
    }

    /// Writes queued replies as far as possible without waiting. Returns true if the queue
    /// is empty.
    ///
    /// A write error discards the queue, but is not returned: the client's earlier requests still
    /// count, and the next read notices that the client is gone.
    pub(crate) fn try_flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.transport.try_write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.out.clear(),
            }
        }
        true
    }

    /// Writes all queued replies. Write errors are handled like in [`try_flush`](Self::try_flush).
    pub(crate) async fn flush(&mut self) {
        while !self.try_flush() {
            // The next write reports the error.
            let _ = self.transport.writable().await;
        }
        // Keep the buffer for the next reply, unless a listing or document made it large.
        if self.out.capacity() > MIN_READ_BYTES {
            self.out = BytesMut::new();
        }
    }

    /// Writes encoded frames. The queue must be empty. Not cancel safe.
    pub(crate) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.transport.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.transport.writable().await?
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Frees the memory of both buffers, as far as they are empty.
    pub(crate) fn release(&mut self) {
        self.decoder.release();
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
    }

    /// Writes a reply together with at most three descriptors, after all queued replies. Not
    /// cancel safe.
    pub(crate) async fn send_with(
        &mut self,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.flush().await;
        let mut frame = BytesMut::new();
        reply.encode(&mut frame);
        // The descriptors go with the first byte.
        let sent = self.transport.send_descriptors(&frame, descriptors).await?;
        self.send(frame.get(sent..).unwrap_or_default()).await
    }

    /// Like [`send_with`](Self::send_with), but does not wait: returns false if the socket cannot
    /// take the reply at once, and then sends nothing of the reply.
    pub(crate) async fn try_send_with(
        &mut self,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<bool> {
        if !self.try_flush() {
            return Ok(false);
        }
        let mut frame = BytesMut::new();
        reply.encode(&mut frame);
        let sent =
            poll_once(self.transport.send_descriptors(&frame, descriptors)).await.transpose()?;
        let Some(sent) = sent else { return Ok(false) };
        self.out.extend_from_slice(frame.get(sent..).unwrap_or_default());
        Ok(true)
    }

    /// Waits until a client that should send nothing more disconnects. Returns an error if the
    /// client sends something.
    pub(crate) async fn ended(&self) -> Result<(), Ended> {
        if self.transport.left().await? { Ok(()) } else { Err(unexpected()) }
    }
}

/// Budget charge for a message that has not arrived completely.
#[derive(Debug)]
struct Unfinished {
    budget: Budget,
    charged: Option<Reservation>,
}

impl Unfinished {
    fn charge(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes <= UNCHARGED {
            self.charged = None;
            return Ok(());
        }
        let bytes = wide(bytes);
        let is_charged = match &mut self.charged {
            Some(charged) => charged.resize(bytes),
            None => {
                self.charged = self.budget.reserve(bytes);
                self.charged.is_some()
            }
        };
        is_charged.then_some(()).ok_or_else(|| {
            let message =
                "too many unfinished messages are in flight; try again, or raise limits.max_memory";
            Failure::new(ErrorCode::Limit, message).because(Reason::MessageMemory)
        })
    }
}

/// The error for a client that sends something on a reader's or watcher's connection.
pub(crate) fn unexpected() -> Ended {
    let message = "the client may send nothing more on a reader's connection";
    Ended::Refused(crate::failure::Failure::new(pfs_proto::ErrorCode::Protocol, message))
}
