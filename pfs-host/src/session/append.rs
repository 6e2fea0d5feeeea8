//! Appending to a stream: a writer from its coming to its end.

use std::{future::Future, sync::Arc, time::Duration};

use pfs_proto::StreamPath;
use pfs_stream::{AppendError, Appended, Departure, Writer};
use tokio_util::sync::CancellationToken;

use super::Patience;
use crate::{Caller, Failure};

/// A writer at work. Dropping it is dying, which readers that wait for the end of the writers are told, unless the daemon
/// ends: readers are told that, however the writer's connection is cut.
#[derive(Debug)]
pub struct Append {
    writer: Writer,
    patience: Arc<Patience>,
    shutdown: CancellationToken,
    // After the writer, so that its last line is written when the writer has left.
    log: WritingLog,
}

/// A writer's lines in the log; the last one at drop.
#[derive(Debug)]
struct WritingLog {
    caller: Caller,
    path: StreamPath,
    chunks: u64,
    bytes: u64,
    left: Left,
}

/// How a writer left.
#[derive(Debug)]
enum Left {
    Finished {
        close: bool,
    },
    Failed {
        close: bool,
    },
    Withdrawn,
    /// For this reason; without one, because the client went away.
    Unfinished {
        reason: Option<String>,
    },
}

impl Append {
    /// Appends with a writer that has attached.
    pub(crate) fn new(
        caller: &Caller,
        path: &StreamPath,
        writer: Writer,
        max_block_time: Option<Duration>,
        shutdown: CancellationToken,
    ) -> Self {
        let patience = Arc::new(Patience::new(path, writer.blockers(), max_block_time));
        let (stream, transport) = (path.as_str(), caller.transport);
        caller.log(|pid, uid| tracing::info!(stream, pid, uid, transport, "writer joined"));
        let left = Left::Unfinished { reason: None };
        let log = WritingLog { caller: caller.clone(), path: path.clone(), chunks: 0, bytes: 0, left };
        Self { writer, patience, shutdown, log }
    }

    /// The writer itself, for a protocol that acknowledges chunks. What it appends is told to [`count`](Self::count).
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// How long the writer waits for `block` readers.
    pub(crate) fn patience(&self) -> Arc<Patience> {
        Arc::clone(&self.patience)
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

    /// Appends a chunk. While `block` readers need the room, waits for them, within their time limit if there is one, or until
    /// the daemon ends.
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
            never = self.patience.enforce() => match never {},
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
            never = self.patience.enforce() => match never {},
            () = self.shutdown.cancelled() => return Err(Rejected::GoingAway),
        };
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.count(chunks.len() as u64, bytes);
        Ok(appended)
    }

    /// Ends the writer properly, and closes the stream if that is wanted.
    pub fn finish(mut self, close: bool) {
        self.writer.depart_as(Departure::Finished);
        if close {
            self.writer.close();
        }
        self.log.left = Left::Finished { close };
    }

    /// Ends the writer as failed, which counts as a death, and closes the stream as failed if that is wanted.
    pub fn fail(mut self, close: bool) {
        self.writer.depart_as(Departure::Died);
        if close {
            self.writer.close_failed();
        }
        self.log.left = Left::Failed { close };
    }

    /// Ends the writer before it has appended anything. It does not count as one that died.
    pub fn withdraw(mut self) {
        self.writer.depart_as(Departure::Finished);
        self.log.left = Left::Withdrawn;
    }

    /// Ends the writer in the middle of its work, as a drop does, and logs this reason.
    pub fn abandon(mut self, reason: &str) {
        self.log.left = Left::Unfinished { reason: Some(reason.to_owned()) };
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        if let Left::Unfinished { reason } = &mut self.log.left
            && self.shutdown.is_cancelled()
        {
            self.writer.depart_as(Departure::Open);
            reason.get_or_insert_with(|| Failure::going_away().message);
        }
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

impl Drop for WritingLog {
    fn drop(&mut self) {
        let Self { caller, path, chunks, bytes, left } = self;
        let stream = path.as_str();
        caller.log(|pid, uid| match left {
            Left::Finished { close } => {
                tracing::info!(stream, pid, uid, bytes, chunks, close, "writer finished");
            }
            Left::Failed { close } => {
                tracing::warn!(stream, pid, uid, bytes, chunks, close, "writer failed");
            }
            Left::Withdrawn => tracing::info!(stream, pid, uid, "writer withdrew"),
            Left::Unfinished { reason } => {
                let reason = reason.as_deref().unwrap_or("the client went away");
                tracing::warn!(stream, pid, uid, bytes, chunks, reason, "writer left unfinished");
            }
        });
    }
}
