//! What carries the frames of a connection: a Unix socket, or a request and its response over HTTP.

use std::{future::Future, io, os::fd::BorrowedFd};

use bytes::{Bytes, BytesMut};

/// Both directions of one client's connection. Implementations know sockets and bodies; this crate
/// does not.
///
/// # Cancel safety
///
/// Every method may be dropped while it is pending, except
/// [`send_descriptors`](Self::send_descriptors).
pub trait Transport: Send + Sync {
    /// Whether a client may say nothing for as long as it likes between two requests.
    const MAY_PAUSE: bool;

    /// Waits until there is something to read, or nothing more comes.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads what is there, as much as fits into `buffer` without growing it. 0 at the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing is there now; any other means that the client is
    /// gone.
    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Waits until something can be written.
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Writes what can be written at once, and tells how much that was.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if that is nothing; any other means that the client reads no
    /// more.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether [`send`](Self::send) keeps bytes until the client has them. Otherwise the system
    /// copies what is written, and the sender can use its buffer again.
    const KEEPS_BYTES: bool = false;

    /// Sends bytes without a copy of them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] unless [`KEEPS_BYTES`](Self::KEEPS_BYTES); any other means
    /// that the client reads no more.
    fn send(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        let _ = bytes;
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Whether the transport can send heartbeats. A socket of this machine needs none: the kernel
    /// tells of a dead client.
    const HEARTBEATS: bool = false;

    /// Sends a heartbeat from now on whenever nothing was sent for
    /// [`HEARTBEAT_INTERVAL`](pfs_proto::HEARTBEAT_INTERVAL). The transport ends with
    /// [`TimedOut`](io::ErrorKind::TimedOut) when it waits for a client that sends nothing for
    /// [`HEARTBEAT_TIMEOUT`](pfs_proto::HEARTBEAT_TIMEOUT).
    fn begin_heartbeats(&self) {}

    /// Waits until the other end is gone for good, whatever of its bytes are still unread.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;

    /// Waits until a client that has nothing more to say leaves; false if it says something
    /// instead.
    fn left(&self) -> impl Future<Output = io::Result<bool>> + Send;

    /// Lets the system hold about this many bytes for a client that reads, where that can be
    /// chosen.
    fn enlarge_send_buffer(&self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether this client may be passed descriptors along with bytes, and so share memory with the
    /// daemon.
    fn passes_descriptors(&self) -> bool {
        false
    }

    /// Writes the beginning of these bytes together with descriptors, and tells how many bytes
    /// went.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] unless [`passes_descriptors`](Self::passes_descriptors).
    fn send_descriptors(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> impl Future<Output = io::Result<usize>> + Send {
        let _ = (bytes, descriptors);
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
