//! Appending to a stream: a writer from its coming to its end.

use std::{future::Future, sync::Arc, time::Duration};

use pfs_proto::StreamPath;
use pfs_stream::{Departure, WriteError, Writer};
use tokio::sync::watch;

use super::Patience;
use crate::{Caller, Cutoff, Failure, caller::routine};

/// A writer at work. Dropping it is dying, which readers that wait for the end of the writers are
/// told, unless the daemon ends: readers are told that, however the writer's connection is cut.
#[derive(Debug)]
pub struct Append {
    writer: Writer,
    patience: Arc<Patience>,
    cutoff: Cutoff,
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
    /// A line about the request tells all, unless the writer was announced.
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
        max_block_time: watch::Receiver<Option<Duration>>,
        cutoff: Cutoff,
        in_request: bool,
    ) -> Self {
        let patience = Arc::new(Patience::new(path, writer.blockers(), max_block_time));
        let left = Left::Unfinished { reason: None };
        let (caller, path) = (caller.clone(), path.clone());
        let log = WritingLog { caller, path, chunks: 0, bytes: 0, left, in_request: true };
        let mut append = Self { writer, patience, cutoff, log };
        if !in_request {
            append.announce();
        }
        append
    }

    /// Logs that the writer has joined, and later that it has finished, also in a request that has
    /// a line of its own: that line comes at the end, and a live body may go on for days.
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

    /// The writer itself, for a protocol that acknowledges chunks. What it appends is told to
    /// [`count`](Self::count).
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// When the writer is cut off.
    pub fn cutoff(&self) -> &Cutoff {
        &self.cutoff
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

    /// Appends a chunk. While `block` readers need the room, waits for them, within their time
    /// limit if there is one, or until the writer is cut off.
    ///
    /// # Errors
    ///
    /// The stream takes no more, the chunk is too large for it, or the writer is cut off.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has appended nothing.
    pub async fn append(&mut self, chunk: &[u8]) -> Result<(), Rejected> {
        tokio::select! {
            biased;
            appended = self.writer.append(chunk) => appended?,
            never = self.patience.enforce() => match never {},
            failure = self.cutoff.reached() => return Err(Rejected::CutOff(failure)),
        }
        self.count(1, chunk.len() as u64);
        Ok(())
    }

    /// Appends chunks together, all or none of them. Waits where a `block` reader needs the room,
    /// until the writer is cut off.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Self::append), where the chunks together count as one.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it is pending, it has appended nothing.
    pub async fn append_all(&mut self, chunks: &[&[u8]]) -> Result<(), Rejected> {
        tokio::select! {
            biased;
            appended = self.writer.append_all(chunks) => drop(appended?),
            never = self.patience.enforce() => match never {},
            failure = self.cutoff.reached() => return Err(Rejected::CutOff(failure)),
        }
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.count(chunks.len() as u64, bytes);
        Ok(())
    }

    /// Ends the writer properly, and closes the stream if that is wanted.
    pub fn finish(mut self, close: bool) {
        self.writer.depart_as(Departure::Finished);
        if close {
            self.writer.close();
        }
        self.log.left = Left::Finished { close };
    }

    /// Ends the writer as failed, which counts as a death, and closes the stream as failed if that
    /// is wanted.
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
    /// The stream does not take them.
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
    /// In the words that the client gets.
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
