//! Appending to a stream: a writer from its coming to its end.

use std::future::Future;

use pfs_proto::StreamPath;
use pfs_stream::{AppendError, Appended, Writer};
use tokio_util::sync::CancellationToken;

use crate::{Caller, Failure};

/// A writer at work. Dropping it is dying, which readers that wait for the end of the writers are told.
#[derive(Debug)]
pub struct Append {
    writer: Writer,
    shutdown: CancellationToken,
    log: WritingLog,
}

/// A writer's lines in the log.
#[derive(Debug)]
struct WritingLog {
    caller: Caller,
    path: StreamPath,
    chunks: u64,
    bytes: u64,
    ended: bool,
}

impl Append {
    /// Appends with a writer that has attached.
    pub(crate) fn new(
        caller: &Caller,
        path: &StreamPath,
        writer: Writer,
        shutdown: CancellationToken,
    ) -> Self {
        let (stream, transport) = (path.as_str(), caller.transport);
        caller.log(|pid, uid| tracing::info!(stream, pid, uid, transport, "writer joined"));
        let log =
            WritingLog { caller: caller.clone(), path: path.clone(), chunks: 0, bytes: 0, ended: false };
        Self { writer, shutdown, log }
    }

    /// The writer itself, for a protocol that acknowledges chunks. What it appends is told to [`count`](Self::count).
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// So much was appended.
    pub fn count(&mut self, chunks: u64, bytes: u64) {
        self.log.chunks = self.log.chunks.saturating_add(chunks);
        self.log.bytes = self.log.bytes.saturating_add(bytes);
    }

    /// Bytes that were appended so far.
    pub fn bytes(&self) -> u64 {
        self.log.bytes
    }

    /// Waits until the stream takes no more appends, and tells why. Cancel safe.
    pub fn failure(&self) -> impl Future<Output = Failure> + Send + 'static {
        let (failure, path) = (self.writer.failure(), self.log.path.clone());
        async move { Failure::appending(&path, failure.await) }
    }

    /// Appends a chunk. Waits where a `block` reader needs the room, until the daemon ends.
    ///
    /// # Errors
    ///
    /// The stream takes no more, the chunk is too large for it, or the daemon ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has appended nothing.
    pub async fn append(&mut self, chunk: &[u8]) -> Result<Appended, Rejected> {
        let appended = tokio::select! {
            biased;
            appended = self.writer.append(chunk) => appended?,
            () = self.shutdown.cancelled() => return Err(Rejected::GoingAway),
        };
        self.count(1, chunk.len() as u64);
        Ok(appended)
    }

    /// Appends chunks together, all or none of them. Waits where a `block` reader needs the room, until the daemon ends.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Self::append), where the chunks together count as one.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has appended nothing.
    pub async fn append_all(&mut self, chunks: &[&[u8]]) -> Result<Appended, Rejected> {
        let appended = tokio::select! {
            biased;
            appended = self.writer.append_all(chunks) => appended?,
            () = self.shutdown.cancelled() => return Err(Rejected::GoingAway),
        };
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.count(chunks.len() as u64, bytes);
        Ok(appended)
    }

    /// Ends the writer properly, and closes the stream if that is wanted.
    pub fn finish(self, close: bool) {
        let Self { writer, mut log, .. } = self;
        if close {
            writer.finish_and_close();
        } else {
            writer.finish();
        }
        log.ended = true;
        let WritingLog { caller, path, chunks, bytes, .. } = &log;
        let stream = path.as_str();
        caller.log(|pid, uid| tracing::info!(stream, pid, uid, bytes, chunks, close, "writer finished"));
    }

    /// Ends the writer in the middle of its work. That is a death, unless it is the daemon that ends: readers are told that.
    pub fn abandon(self, reason: &str) {
        let Self { writer, shutdown, mut log } = self;
        if shutdown.is_cancelled() {
            writer.leave_open();
        } else {
            drop(writer);
        }
        log.unfinished(reason);
    }
}

/// Why chunks were not appended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rejected {
    /// The stream does not take them.
    Stream(AppendError),
    /// The daemon ends.
    GoingAway,
}

impl From<AppendError> for Rejected {
    fn from(error: AppendError) -> Self {
        Self::Stream(error)
    }
}

impl Rejected {
    /// In the words that the client gets.
    pub fn failure(self, path: &StreamPath) -> Failure {
        match self {
            Self::Stream(error) => Failure::appending(path, error),
            Self::GoingAway => Failure::going_away(),
        }
    }
}

impl WritingLog {
    fn unfinished(&mut self, reason: &str) {
        self.ended = true;
        let Self { caller, path, chunks, bytes, .. } = self;
        let stream = path.as_str();
        caller.log(|pid, uid| {
            tracing::warn!(stream, pid, uid, bytes, chunks, reason, "writer left unfinished");
        });
    }
}

impl Drop for WritingLog {
    fn drop(&mut self) {
        if !self.ended {
            self.unfinished("the client went away");
        }
    }
}
