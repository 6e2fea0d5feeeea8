//! Log lines of a reader, from joining to leaving.

use pfs_proto::{End, StreamPath};
use pfs_stream::Reader;
#[cfg(target_os = "linux")]
use pfs_stream::shm::Handout;

use super::{follow::Gap, gap_log::GapLog};
use crate::{Caller, Failure, failure::Ended};

/// Log lines of a reader.
#[derive(Debug)]
pub(crate) struct ReadingLog {
    caller: Caller,
    path: StreamPath,
    start: u64,
    gaps: GapLog,
    reason: Option<String>,
}

/// The losses of a reader that leaves.
#[derive(Clone, Copy, Debug)]
struct Lost {
    bytes: u64,
    chunks: u64,
}

impl Lost {
    /// The number of chunks. `None`, which the log omits, if bytes were lost in an unknown number
    /// of chunks.
    fn known_chunks(self) -> Option<u64> {
        (self.bytes == 0 || self.chunks > 0).then_some(self.chunks)
    }
}

impl ReadingLog {
    /// Logs that a reader has joined.
    pub(crate) fn joined(caller: &Caller, path: &StreamPath, reader: &Reader) -> Self {
        let (stream, start, transport) = (path.as_str(), reader.start(), caller.transport);
        let policy = format!("{:?}", reader.policy()).to_lowercase();
        caller.log(|pid, uid| {
            tracing::info!(stream, pid, uid, start, policy, transport, "reader joined")
        });
        Self {
            caller: caller.clone(),
            path: path.clone(),
            start,
            gaps: GapLog::default(),
            reason: None,
        }
    }

    /// The path of the stream.
    pub(crate) fn path(&self) -> &StreamPath {
        &self.path
    }

    /// Logs a gap.
    pub(crate) fn gap(&mut self, gap: Gap) {
        self.gaps.gap(&self.caller, self.path.as_str(), gap.from, gap.to, gap.chunks);
    }

    /// Notes the end of the stream as the reason for leaving.
    pub(crate) fn ends(&mut self, end: End) {
        self.reason = Some(end.to_string());
    }

    /// Notes that the reader got all that it requested, unless another reason is set.
    pub(crate) fn is_answered(&mut self) {
        self.reason.get_or_insert_with(|| "the reader has all that it requested".to_owned());
    }

    /// Notes a failure as the reason for leaving.
    pub(crate) fn fails(&mut self, failure: &Failure) {
        self.reason = Some(failure.message.clone());
    }

    /// Notes that the reader was given up.
    pub(crate) fn gives_up(&mut self, ended: &Ended) {
        self.reason = Some(ended.reason().to_owned());
    }

    /// Logs that an shm reader has left. Its losses are visible only now, because it read the ring
    /// by itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn left_ring(&mut self, handout: &Handout, ended: &Ended) {
        let lost = Lost { bytes: handout.lost_bytes(), chunks: handout.lost_chunks() };
        let stream = self.path.as_str();
        if lost.bytes > 0 {
            let (lost_bytes, lost_chunks) = (lost.bytes, lost.known_chunks());
            self.caller.log(|pid, uid| {
                tracing::warn!(
                    stream,
                    pid,
                    uid,
                    lost_bytes,
                    lost_chunks,
                    "reader lost data, in gaps"
                );
            });
        }
        match (ended, handout.end()) {
            (Ended::Gone, Ok(Some(end))) => self.ends(end),
            (Ended::Gone, Err(error)) => self.fails(&Failure::reading(&self.path, error)),
            _ => self.gives_up(ended),
        }
        self.goes(handout.position(), lost);
    }

    /// Logs that a reader has left.
    pub(crate) fn left(&mut self, reader: &Reader) {
        let lost = Lost { bytes: reader.lost_bytes(), chunks: reader.lost_chunks() };
        self.goes(reader.position(), lost);
    }

    fn goes(&mut self, position: u64, lost: Lost) {
        let (lost_bytes, lost_chunks) = (lost.bytes, lost.known_chunks());
        let stream = self.path.as_str();
        self.gaps.finish(&self.caller, stream);
        // Bytes that the reader has read, although the last of them may still have been on their
        // way when the client left.
        let bytes = position.saturating_sub(self.start).saturating_sub(lost_bytes);
        let reason = self.reason.as_deref().unwrap_or("the client went away");
        self.caller.log(|pid, uid| {
            tracing::info!(
                stream,
                pid,
                uid,
                position,
                bytes,
                lost_bytes,
                lost_chunks,
                reason,
                "reader left"
            );
        });
    }
}
