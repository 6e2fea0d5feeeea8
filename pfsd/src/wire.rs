//! What carries a connection, with its two buffers: frames in, replies out.

use std::io;

use bytes::{Buf, BytesMut};
use pfs_proto::{Decoder, Frame, Reply};
use tokio::{
    io::Interest,
    net::UnixStream,
    time::{Duration, sleep},
};

use crate::{failure::Ended, http::Bodies};

/// The largest read, in bytes: enough to make system calls cheap, little enough for thousands of writers.
const MAX_READ: usize = 128 << 10;

/// The smallest read that one waits for with a buffer of its own.
const MIN_READ: usize = 16 << 10;

/// One client's connection. Except where they say otherwise, methods are cancel safe: what was read or written so far is
/// remembered.
#[derive(Debug)]
pub(crate) struct Wire {
    carrier: Carrier,
    decoder: Decoder,
    /// Replies not written yet.
    out: BytesMut,
    /// Grows while reads come back full, so that only busy connections get a large buffer.
    read_size: usize,
    /// Whether memory can go along with replies.
    pub(crate) sharing: bool,
    /// Whether the client goes on over another connection when this one breaks.
    pub(crate) resuming: bool,
}

/// A socket, or a request and its response over HTTP.
#[derive(Debug)]
enum Carrier {
    Socket(UnixStream),
    Bodies(Bodies),
}

impl Wire {
    /// Over a socket.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self::over(Carrier::Socket(stream))
    }

    /// Over HTTP.
    pub(crate) fn over_http(bodies: Bodies) -> Self {
        Self::over(Carrier::Bodies(bodies))
    }

    fn over(carrier: Carrier) -> Self {
        let (decoder, out) = (Decoder::new(), BytesMut::new());
        Self { carrier, decoder, out, read_size: MIN_READ, sharing: false, resuming: false }
    }

    /// The socket that it goes over, if it is one: only there memory can go along.
    pub(crate) fn socket(&self) -> Option<&UnixStream> {
        match &self.carrier {
            Carrier::Socket(stream) => Some(stream),
            Carrier::Bodies(_) => None,
        }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.carrier {
            Carrier::Socket(stream) => stream.readable().await,
            Carrier::Bodies(bodies) => {
                bodies.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until something can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match &self.carrier {
            Carrier::Socket(stream) => stream.writable().await,
            Carrier::Bodies(bodies) => bodies.writable().await,
        }
    }

    /// Writes what can be written at once.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.carrier {
            Carrier::Socket(stream) => stream.try_write(bytes),
            Carrier::Bodies(bodies) => bodies.try_write(bytes),
        }
    }

    /// Waits for a whole frame. `None` when the client has ended its side.
    pub(crate) async fn frame(&mut self) -> Result<Option<Frame>, Ended> {
        loop {
            if let Some(frame) = self.received()? {
                return Ok(Some(frame));
            }
            // An idle connection keeps no buffer.
            self.decoder.release();
            self.readable().await?;
            if self.fill()? == Some(0) {
                return Ok(None);
            }
        }
    }

    /// A frame that has been read already.
    pub(crate) fn received(&mut self) -> Result<Option<Frame>, Ended> {
        Ok(self.decoder.next_frame()?)
    }

    /// Whether everything that was read has been taken.
    pub(crate) fn input_is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    /// Reads what is there, without waiting: `Some(0)` at the client's end, `None` if nothing is there now.
    pub(crate) fn fill(&mut self) -> io::Result<Option<usize>> {
        let buffer = self.decoder.buffer_for(self.read_size);
        let room = buffer.capacity().saturating_sub(buffer.len());
        let read = match &self.carrier {
            Carrier::Socket(stream) => stream.try_read_buf(buffer),
            Carrier::Bodies(bodies) => bodies.try_read(buffer),
        };
        match read {
            Ok(read) => {
                if read == room {
                    self.read_size = self.read_size.saturating_mul(2).min(MAX_READ);
                }
                Ok(Some(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Queues a reply.
    pub(crate) fn put(&mut self, reply: &Reply) {
        reply.encode(&mut self.out);
    }

    /// Bytes of replies that are not written yet.
    pub(crate) fn queued(&self) -> usize {
        self.out.len()
    }

    /// Writes queued replies as far as the socket takes them at once; true if all are written.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        while !self.out.is_empty() {
            match self.try_write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes all queued replies.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.try_flush()? {
            self.writable().await?;
        }
        // Kept for the next reply, unless a listing or document made it large.
        if self.out.capacity() > MIN_READ {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Writes bytes that are frames already. Nothing may be queued. Not cancel safe.
    pub(crate) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives back the memory of both buffers as far as they are empty.
    pub(crate) fn release(&mut self) {
        self.decoder.release();
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
    }

    /// Waits until the other end is gone for good, whatever of its bytes are still unread.
    ///
    /// A client that has only ended its own side, and still listens, is not gone.
    pub(crate) async fn hung_up(&self) {
        let stream = match &self.carrier {
            Carrier::Socket(stream) => stream,
            Carrier::Bodies(bodies) => return bodies.hung_up().await,
        };
        // Reading would take bytes that nobody can process now, and a socket with unread bytes stays
        // "readable". Interest in priority data, which a Unix socket never has, waits for the hang-up alone.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if stream.ready(Interest::PRIORITY).await.is_err() {
            return;
        }
        loop {
            match stream.ready(Interest::WRITABLE | Interest::READABLE).await {
                Ok(ready) if ready.is_write_closed() => return,
                Ok(_) => sleep(Duration::from_millis(100)).await,
                Err(_) => return,
            }
        }
    }

    /// Waits until a client that has nothing more to say leaves; `Err` if it says something.
    ///
    /// Over a socket it leaves when it ends its side. Over HTTP it has ended that as soon as it has asked.
    pub(crate) async fn ended(&self) -> Result<(), Ended> {
        let stream = match &self.carrier {
            Carrier::Socket(stream) => stream,
            Carrier::Bodies(bodies) => return if bodies.left().await { Ok(()) } else { Err(unexpected()) },
        };
        let mut said = [0; 1];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut said) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(unexpected()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A client that reads a stream has nothing to say.
pub(crate) fn unexpected() -> Ended {
    let message = "a reader's connection carries nothing more from the client";
    Ended::Refused(crate::failure::Failure::new(pfs_proto::ErrorCode::Protocol, message))
}
