//! The *append* session: a writer from joining to leaving.

use std::{future::Future, sync::Arc, time::Duration};

use pfs_proto::StreamPath;
use pfs_stream::{Departure, WriteError, Writer};
use tokio::sync::watch;

use super::Patience;
use crate::{
    Caller, Cutoff, Failure,
    caller::routine,
    media::{Index, Indexing},
};

/// A writer. Dropping it means that the writer died, which is reported to readers that wait for the
/// end of the writers. During a shutdown readers are told only that the daemon ends, however the
/// writer's connection is cut.
#[derive(Debug)]
pub struct Append {
    writer: Writer,
    patience: Arc<Patience>,
    cutoff: Cutoff,
    indexing: Indexing,
    // After the writer, so that the last line is written when the writer has left.
    log: WritingLog,
}

/// Log lines of a writer. The last line is written at drop.
#[derive(Debug)]
struct WritingLog {
    caller: Caller,
    path: StreamPath,
    chunks: u64,
    bytes: u64,
    left: Left,
    /// Whether the log line of the request covers the writer. False once the writer was announced.
    in_request: bool,
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
    /// The writer did not finish: with the reason, or `None` if the client went away.
    Unfinished {
        reason: Option<String>,
    },
}

impl Append {
    /// Creates the session of an attached writer.
    pub(crate) fn new(
        caller: &Caller,
        path: &StreamPath,
        writer: Writer,
        max_block_time: watch::Receiver<Option<Duration>>,
        cutoff: Cutoff,
        in_request: bool,
    ) -> Self {
        let patience = Arc::new(Patience::new(path.as_str(), writer.blockers(), max_block_time));
        let left = Left::Unfinished { reason: None };
        let (caller, path) = (caller.clone(), path.clone());
        let log = WritingLog { caller, path, chunks: 0, bytes: 0, left, in_request: true };
        let indexing = Indexing::default();
        let mut append = Self { writer, patience, cutoff, indexing, log };
        if !in_request {
            append.announce();
        }
        append
    }

    /// Logs that the writer has joined, and later that it has finished, even if the request has a
    /// log line of its own: the request's line is written at the end, and a live body may go on
    /// for days.
    pub fn announce(&mut self) {
        if !self.is_announced() {
            self.log.in_request = false;
            let WritingLog { caller, path, .. } = &self.log;
            let (stream, transport) = (path.as_str(), caller.transport);
            caller.log(|pid, uid| tracing::info!(stream, pid, uid, transport, "writer joined"));
        }
    }

    /// Whether the log has a line about the writer's joining.
    pub fn is_announced(&self) -> bool {
        !self.log.in_request
    }

    /// The engine's writer, for a protocol that acknowledges chunks. Report appends through it
    /// with [`count`](Self::count).
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// The cutoff of the writer.
    pub fn cutoff(&self) -> &Cutoff {
        &self.cutoff
    }

    /// The time limit for waiting for `block` readers.
    pub(crate) fn patience(&self) -> Arc<Patience> {
        Arc::clone(&self.patience)
    }

    /// Counts chunks and bytes that were appended through [`writer`](Self::writer).
    pub fn count(&mut self, chunks: u64, bytes: u64) {
        self.log.chunks = self.log.chunks.saturating_add(chunks);
        self.log.bytes = self.log.bytes.saturating_add(bytes);
    }

    /// Updates the media index after an append of this many bytes. Call this after each append
    /// through [`writer`](Self::writer).
    pub(crate) fn index(&mut self, bytes: u64) {
        let Self { writer, indexing, .. } = self;
        indexing.appended(|| writer.stream(), bytes, writer.offset());
    }

    /// Marks the last chunk that this writer has appended as a sync point. `bytes` is the size of
    /// the chunk.
    pub fn mark_sync(&mut self, bytes: u64) {
        Index::mark(&self.writer.stream(), self.writer.offset().saturating_sub(bytes));
    }

    /// Bytes appended so far.
    pub fn bytes(&self) -> u64 {
        self.log.bytes
    }

    /// Waits until the stream takes no more appends, and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it is pending.
    pub fn failure(&self) -> impl Future<Output = Failure> + Send + 'static {
        let (failure, path) = (self.writer.failure(), self.log.path.clone());
        async move { Failure::appending(&path, failure.await) }
    }

    /// Appends a chunk. If the append would overwrite data that `block` readers have yet to read,
    /// waits for them: until the time limit, if there is one, or until the writer is cut off.
    ///
    /// # Errors
    ///
    /// The stream takes no more appends, the chunk is too large for the stream, or the writer is
    /// cut off.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, nothing is appended.
    pub async fn append(&mut self, chunk: &[u8]) -> Result<(), Rejected> {
        tokio::select! {
            biased;
            appended = self.writer.append(chunk) => appended?,
            never = self.patience.enforce() => match never {},
            failure = self.cutoff.reached() => return Err(Rejected::CutOff(failure)),
        }
        self.index(chunk.len() as u64);
        self.count(1, chunk.len() as u64);
        Ok(())
    }

    /// Appends several chunks, all or none. Waits for `block` readers
    /// like [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Those of [`append`](Self::append), where all chunks together count as one.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, nothing is appended.
    pub async fn append_all(&mut self, chunks: &[&[u8]]) -> Result<(), Rejected> {
        tokio::select! {
            biased;
            appended = self.writer.append_all(chunks) => drop(appended?),
            never = self.patience.enforce() => match never {},
            failure = self.cutoff.reached() => return Err(Rejected::CutOff(failure)),
        }
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.index(bytes);
        self.count(chunks.len() as u64, bytes);
        Ok(())
    }

    /// Finishes the writer, and closes the stream if `close` is set.
    pub fn finish(mut self, close: bool) {
        self.writer.depart_as(Departure::Finished);
        if close {
            self.writer.close();
        }
        self.log.left = Left::Finished { close };
    }

    /// Ends the writer as failed, which counts as a death. Closes the stream as failed if `close`
    /// is set.
    pub fn fail(mut self, close: bool) {
        self.writer.depart_as(Departure::Died);
        if close {
            self.writer.close_failed();
        }
        self.log.left = Left::Failed { close };
    }

    /// Ends a writer that has appended nothing. The writer does not count as dead.
    pub fn withdraw(mut self) {
        self.writer.depart_as(Departure::Finished);
        self.log.left = Left::Withdrawn;
    }

    /// Ends the writer in the middle of its work, like a drop, and logs `reason`.
    pub fn abandon(mut self, reason: &str) {
        self.log.left = Left::Unfinished { reason: Some(reason.to_owned()) };
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        if let Left::Unfinished { reason } = &mut self.log.left
            && self.cutoff.is_shutdown()
        {
            self.writer.depart_as(Departure::Open);
            reason.get_or_insert_with(|| Failure::shutting_down().message);
        }
    }
}

/// Why chunks were not appended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rejected {
    /// The stream refuses the chunks.
    Stream(WriteError),
    /// The writer is cut off.
    CutOff(Failure),
}

impl From<WriteError> for Rejected {
    fn from(error: WriteError) -> Self {
        Self::Stream(error)
    }
}

impl Rejected {
    /// Converts the error to the failure that the client gets.
    pub fn failure(self, path: &StreamPath) -> Failure {
        match self {
            Self::Stream(error) => Failure::appending(path, error),
            Self::CutOff(failure) => failure,
        }
    }
}

impl Drop for WritingLog {
    fn drop(&mut self) {
        let Self { caller, path, chunks, bytes, left, in_request } = self;
        let stream = path.as_str();
        caller.log(|pid, uid| match left {
            Left::Finished { close } => {
                routine!(*in_request, stream, pid, uid, bytes, chunks, close, "writer finished");
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
