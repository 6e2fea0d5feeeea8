//! Transport: carries the frames of a connection, over a Unix socket or an HTTP request and
//! its response.

use std::{future::Future, io, os::fd::BorrowedFd};

use bytes::{Bytes, BytesMut};

/// Both directions of one client's connection. Implementations know sockets and HTTP bodies; this
/// crate does not.
///
/// # Cancel safety
///
/// Every method may be dropped while it is pending, except
/// [`send_descriptors`](Self::send_descriptors).
pub trait Transport: Send + Sync {
    /// Whether a client may stay silent for as long as it likes between two requests.
    const MAY_PAUSE: bool;

    /// Waits until there is something to read, or the input has ended.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads the available bytes, as many as fit into `buffer` without growing it. Returns 0 at the
    /// end of the input.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing is available now. Any other error means that the
    /// client is gone.
    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Waits until something can be written.
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Writes as much as possible without waiting, and returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing can be written now. Any other error means that the
    /// client has stopped reading.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether [`send`](Self::send) keeps the bytes until the client has them. Otherwise the system
    /// copies the bytes, and the sender can reuse its buffer at once.
    const KEEPS_BYTES: bool = false;

    /// Sends bytes without copying them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] unless [`KEEPS_BYTES`](Self::KEEPS_BYTES). Any other error
    /// means that the client has stopped reading.
    fn send(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        let _ = bytes;
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Whether the transport can send heartbeats. A local socket needs none, because the kernel
    /// reports a dead client.
    const HEARTBEATS: bool = false;

    /// Starts heartbeats: sends one whenever nothing was sent for
    /// [`HEARTBEAT_INTERVAL`](pfs_proto::HEARTBEAT_INTERVAL). The transport fails with
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the daemon waits for a client that has sent
    /// nothing for [`HEARTBEAT_TIMEOUT`](pfs_proto::HEARTBEAT_TIMEOUT).
    fn begin_heartbeats(&self) {}

    /// Waits until the other end is gone for good, even if some of its bytes are still unread.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;

    /// Waits until a client that should send nothing more disconnects. Returns false if the client
    /// sends something instead.
    fn left(&self) -> impl Future<Output = io::Result<bool>> + Send;

    /// Enlarges the kernel's send buffer for a reader to about `bytes`, where the transport can
    /// do that.
    fn enlarge_send_buffer(&self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether descriptors can be passed to this client along with bytes, so that the client can
    /// share memory with the daemon.
    fn passes_descriptors(&self) -> bool {
        false
    }

    /// Writes the first of these bytes together with descriptors, and returns the number of
    /// bytes written.
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
