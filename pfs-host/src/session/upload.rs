//! Upload: appends to a stream that belongs to another daemon, for a protocol without frames.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use pfs_proto::{ErrorCode, Reply, Request, WriteOptions};

use crate::{Cutoff, Failure, Writable, mount::Relay};

/// Bytes on their way to the owner, after which appending waits.
const MAX_OUT_BYTES: usize = 256 * 1024;

/// A writer at the daemon that owns the stream. A writer that is dropped without
/// [`finish`](Self::finish) or [`fail`](Self::fail) has died.
#[derive(Debug)]
pub struct Upload {
    relay: Box<dyn Relay>,
    max_chunk: u64,
    out: BytesMut,
    cutoff: Cutoff,
    bytes: u64,
    /// The offset after the newest chunk that is known to be in the stream.
    offset: u64,
}

impl Writable<'_> {
    /// Whether the stream belongs to another daemon: changes go through
    /// [`ask`](Self::ask) and [`upload`](Self::upload).
    pub fn is_elsewhere(&self) -> bool {
        self.mount.elsewhere().is_some()
    }

    /// Passes a request on to the daemon that owns the stream: `Create`, `Put`, `Close`,
    /// `CloseFailed` or `Remove`.
    ///
    /// # Errors
    ///
    /// The owner refuses the request or cannot be reached, or the caller is cut off.
    pub async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        let Some(owner) = self.mount.elsewhere() else { return Err(self.is_here()) };
        let cutoff = self.cutoff();
        tokio::select! {
            biased;
            reply = owner.ask(request) => reply,
            failure = cutoff.reached() => Err(failure),
        }
    }

    /// Attaches a writer at the daemon that owns the stream, which creates the stream if it does
    /// not exist.
    ///
    /// # Errors
    ///
    /// Those of [`ask`](Self::ask).
    pub async fn upload(&self) -> Result<Upload, Failure> {
        let Some(owner) = self.mount.elsewhere() else { return Err(self.is_here()) };
        let cutoff = self.cutoff();
        let (relay, max_chunk) = tokio::select! {
            biased;
            opened = owner.write(self.path(), WriteOptions::default()) => opened?,
            failure = cutoff.reached() => return Err(failure),
        };
        Ok(Upload { relay, max_chunk, out: BytesMut::new(), cutoff, bytes: 0, offset: 0 })
    }

    fn is_here(&self) -> Failure {
        Failure::new(ErrorCode::Internal, format!("{} belongs to this daemon", self.path()))
    }
}

impl Upload {
    /// The largest chunk that the stream takes, in bytes.
    pub fn max_chunk(&self) -> u64 {
        self.max_chunk
    }

    /// Bytes appended so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a chunk. Waits while the owner takes no more.
    ///
    /// # Errors
    ///
    /// The owner refuses the chunk or cannot be reached, or the caller is cut off.
    pub async fn append(&mut self, chunk: Bytes) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        Request::Append(chunk).encode(&mut self.out);
        while self.out.len() > MAX_OUT_BYTES {
            self.progress().await?;
        }
        Ok(())
    }

    /// Marks the next chunk as a sync point, if the owner knows marks.
    pub fn mark_sync(&mut self) {
        if self.relay.can_mark() && self.bytes == 0 {
            Request::MarkSync { chunk: 0 }.encode(&mut self.out);
        }
    }

    /// Sends what was appended, and waits until the owner refuses the writer or cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub async fn failure(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.progress().await {
                return failure;
            }
        }
    }

    /// Finishes the writer, and closes the stream if `close` is set. Returns the offset after its
    /// last chunk; 0 if there was none.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Self::append).
    pub async fn finish(self, close: bool) -> Result<u64, Failure> {
        self.end(&Request::Finish { close }).await
    }

    /// Ends the writer as failed. Closes the stream as failed if `close` is set.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Self::append).
    pub async fn fail(self, close: bool) -> Result<u64, Failure> {
        self.end(&Request::Fail { close }).await
    }

    async fn end(mut self, last: &Request) -> Result<u64, Failure> {
        last.encode(&mut self.out);
        while !self.progress().await? {}
        Ok(self.offset)
    }

    /// Sends and receives. Returns whether the writer has ended.
    async fn progress(&mut self) -> Result<bool, Failure> {
        let Self { relay, out, cutoff, .. } = self;
        let reply = tokio::select! {
            biased;
            reply = poll_fn(|cx| relay.poll(cx, out)) => reply?,
            failure = cutoff.reached() => return Err(failure),
        };
        if let Some(Reply::Ack { offset, .. }) = reply {
            self.offset = offset;
        }
        Ok(reply == Some(Reply::Done))
    }
}
