//! What the log says of a reader, from its coming to its going.

use pfs_proto::{End, StreamPath};
use pfs_stream::Reader;

use super::{follow::Gap, gap_log::GapLog};
use crate::{Caller, Failure, failure::Ended, sharing::Handout};

/// A reader's lines in the log.
#[derive(Debug)]
pub(crate) struct ReadingLog {
    caller: Caller,
    path: StreamPath,
    start: u64,
    gaps: GapLog,
    reason: Option<String>,
}

/// How far a reader that leaves has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    position: u64,
    lost_bytes: u64,
    lost_chunks: u64,
}

impl ReadingLog {
    /// A reader has attached.
    pub(crate) fn joined(caller: &Caller, path: &StreamPath, reader: &Reader) -> Self {
        let (stream, start, transport) = (path.as_str(), reader.start(), caller.transport);
        let policy = format!("{:?}", reader.policy()).to_lowercase();
        caller.log(|pid, uid| tracing::info!(stream, pid, uid, start, policy, transport, "reader joined"));
        Self { caller: caller.clone(), path: path.clone(), start, gaps: GapLog::default(), reason: None }
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
    pub(crate) fn left_ring(&mut self, handout: &Handout, ended: &Ended) {
        let (lost_bytes, lost_chunks) = (handout.lost_bytes(), handout.lost_chunks());
        let stream = self.path.as_str();
        if lost_bytes > 0 {
            self.caller.log(|pid, uid| {
                tracing::warn!(stream, pid, uid, lost_bytes, lost_chunks, "reader lost data, in gaps");
            });
        }
        match (ended, handout.end()) {
            (Ended::Gone, Ok(Some(end))) => self.ends(end),
            (Ended::Gone, Err(error)) => self.fails(&Failure::reading(&self.path, error)),
            _ => self.gives_up(ended),
        }
        self.goes(Progress { position: handout.position(), lost_bytes, lost_chunks });
    }

    /// It goes.
    pub(crate) fn left(&mut self, reader: &Reader) {
        let (lost_bytes, lost_chunks) = (reader.lost_bytes(), reader.lost_chunks());
        self.goes(Progress { position: reader.position(), lost_bytes, lost_chunks });
    }

    fn goes(&mut self, progress: Progress) {
        let Progress { position, lost_bytes, lost_chunks } = progress;
        let stream = self.path.as_str();
        self.gaps.finish(&self.caller, stream);
        // What it read, although the last of it may still have been on its way when the client left.
        let bytes = position.saturating_sub(self.start).saturating_sub(lost_bytes);
        let reason = self.reason.as_deref().unwrap_or("the client went away");
        self.caller.log(|pid, uid| {
            tracing::info!(stream, pid, uid, position, bytes, lost_bytes, lost_chunks, reason, "reader left");
        });
    }
}
