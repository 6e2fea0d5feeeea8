//! A Unix socket over which memory may come along with a message.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// The most descriptors that one message brings: the ring and the reader's page.
const MOST: usize = 2;

/// Descriptors that came and were not taken yet, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(Arc<Mutex<VecDeque<OwnedFd>>>);

impl Passed {
    /// The next one. It is here when the message that it came with is.
    pub(crate) fn take(&self) -> io::Result<OwnedFd> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no memory came along with the message")
        })
    }

    fn put(&self, descriptors: impl Iterator<Item = OwnedFd>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(descriptors);
    }
}

/// The socket. What comes along is taken until something has; after that, nothing more is expected.
#[derive(Debug)]
pub(crate) struct PassingSocket {
    socket: UnixStream,
    passed: Passed,
    expecting: bool,
}

impl PassingSocket {
    pub(crate) fn new(socket: UnixStream) -> (Self, Passed) {
        let passed = Passed::default();
        (Self { socket, passed: passed.clone(), expecting: true }, passed)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = self.socket.try_io(Interest::READABLE, || {
            let iov = &mut [IoSliceMut::new(buffer)];
            Ok(recvmsg(&self.socket, iov, &mut control, RecvFlags::CMSG_CLOEXEC)?)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.put(descriptors);
                self.expecting = false;
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
        if !this.expecting {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        loop {
            ready!(this.socket.poll_read_ready(cx))?;
            match this.receive(buffer.initialize_unfilled()) {
                Ok(received) => {
                    buffer.advance(received);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for PassingSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
