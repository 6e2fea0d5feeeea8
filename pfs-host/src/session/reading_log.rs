//! What the log says of a reader, from its coming to its going.

use pfs_proto::{End, StreamPath};
use pfs_stream::Reader;
#[cfg(target_os = "linux")]
use pfs_stream::shm::Handout;

use super::{follow::Gap, gap_log::GapLog};
use crate::{Caller, Failure, failure::Ended};

/// A reader's lines in the log.
#[derive(Debug)]
pub(crate) struct ReadingLog {
    caller: Caller,
    path: StreamPath,
    start: u64,
    gaps: GapLog,
    reason: Option<String>,
}

/// What a reader that leaves has lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    bytes: u64,
    chunks: u64,
}

impl Lost {
    /// `None`, which the log leaves out, where bytes were lost in a number of chunks that is not
    /// known.
    fn known_chunks(self) -> Option<u64> {
        (self.bytes == 0 || self.chunks > 0).then_some(self.chunks)
    }
}

impl ReadingLog {
    /// A reader has attached.
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

    /// What it reads.
    pub(crate) fn path(&self) -> &StreamPath {
        &self.path
    }

    /// It lost these offsets.
    pub(crate) fn gap(&mut self, gap: Gap) {
        self.gaps.gap(&self.caller, self.path.as_str(), gap.from, gap.to, gap.chunks);
    }

    /// It has come to this end.
    pub(crate) fn ends(&mut self, end: End) {
        self.reason = Some(end.to_string());
    }

    /// It has all that it asked for.
    pub(crate) fn is_answered(&mut self) {
        self.reason.get_or_insert_with(|| "it has what it asked for".to_owned());
    }

    /// It cannot go on.
    pub(crate) fn fails(&mut self, failure: &Failure) {
        self.reason = Some(failure.message.clone());
    }

    /// It is given up.
    pub(crate) fn gives_up(&mut self, ended: &Ended) {
        self.reason = Some(ended.reason().to_owned());
    }

    /// It goes, having read the ring by itself: what it lost is seen only now.
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

    /// It goes.
    pub(crate) fn left(&mut self, reader: &Reader) {
        let lost = Lost { bytes: reader.lost_bytes(), chunks: reader.lost_chunks() };
        self.goes(reader.position(), lost);
    }

    fn goes(&mut self, position: u64, lost: Lost) {
        let (lost_bytes, lost_chunks) = (lost.bytes, lost.known_chunks());
        let stream = self.path.as_str();
        self.gaps.finish(&self.caller, stream);
        // What it read, although the last of it may still have been on its way when the client
        // left.
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
