//! Descriptor passing: a Unix socket that receives file descriptors with messages.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use pfs_proto::MAX_DESCRIPTORS;
use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, recvmsg, shutdown},
    time::{ClockId, clock_gettime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    runtime::Handle,
};

/// How often a writer that has no other reason to read its socket checks for input.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The received descriptors that were not taken yet, oldest first, and their socket.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    queue: Arc<Mutex<VecDeque<OwnedFd>>>,
    socket: Arc<UnixStream>,
    /// The runtime that drives the socket.
    runtime: Handle,
}

impl Passed {
    /// Takes the next descriptor. A descriptor has arrived once its message has.
    pub(crate) fn take(&self) -> io::Result<OwnedFd> {
        let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the message passed no memory")
        })
    }

    /// The runtime for waiting on received descriptors.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The socket, for a watch beside the reader.
    pub(crate) fn socket(&self) -> &Arc<UnixStream> {
        &self.socket
    }

    /// Returns true if the socket has input or was closed. Checks at most once per
    /// [`POLL_INTERVAL`] since `looked`.
    pub(crate) fn has_input(&self, looked: &mut Duration) -> bool {
        // The coarse clock has the resolution of the system's tick, and costs a fraction of the
        // exact time.
        let now: Duration = clock_gettime(ClockId::MonotonicCoarse).try_into().unwrap_or_default();
        if now.saturating_sub(*looked) < POLL_INTERVAL {
            return false;
        }
        *looked = now;
        let mut asked = [PollFd::new(&*self.socket, PollFlags::IN)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|told| told > 0)
    }

    fn put(&self, descriptors: impl Iterator<Item = OwnedFd>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.extend(descriptors);
        queue.truncate(MAX_DESCRIPTORS);
    }
}

/// A Unix socket that queues the descriptors it receives.
#[derive(Debug)]
pub(crate) struct PassingSocket {
    socket: Arc<UnixStream>,
    passed: Passed,
}

impl PassingSocket {
    pub(crate) fn new(socket: UnixStream) -> (Self, Passed) {
        let socket = Arc::new(socket);
        let passed = Passed {
            queue: Arc::default(),
            socket: Arc::clone(&socket),
            runtime: Handle::current(),
        };
        (Self { socket, passed: passed.clone() }, passed)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = self.socket.try_io(Interest::READABLE, || {
            let iov = &mut [IoSliceMut::new(buffer)];
            Ok(recvmsg(&self.socket, iov, &mut control, RecvFlags::CMSG_CLOEXEC)?)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.put(descriptors);
            }
        }
        Ok(received.bytes)
    }
}

impl AsyncRead for PassingSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.socket.poll_read_ready(cx))?;
            match this.receive(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received.map(|received| buffer.advance(received))),
            }
        }
    }
}

impl AsyncWrite for PassingSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&*self.socket, Shutdown::Write)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
