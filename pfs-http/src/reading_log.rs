//! What the log says of a reader over HTTP, from its coming to its going.

use pfs_host::{Client, Failure, GapLog};
use pfs_proto::{End, StreamPath};
use pfs_stream::Reader;

use super::body::Gap;

/// A reader's lines in the log.
#[derive(Debug)]
pub(crate) struct ReadingLog {
    client: Client,
    path: StreamPath,
    gaps: GapLog,
    reason: Option<String>,
}

impl ReadingLog {
    /// It has attached.
    pub(crate) fn joined(client: &Client, path: &StreamPath, reader: &Reader) -> Self {
        let (stream, start) = (path.as_str(), reader.start());
        client.log(|pid, uid| tracing::info!(stream, pid, uid, start, http = true, "reader joined"));
        Self { client: *client, path: path.clone(), gaps: GapLog::default(), reason: None }
    }

    /// What it reads.
    pub(crate) fn path(&self) -> &StreamPath {
        &self.path
    }

    /// It lost these offsets.
    pub(crate) fn gap(&mut self, gap: Gap) {
        self.gaps.gap(&self.client, self.path.as_str(), gap.from, gap.to, gap.chunks);
    }

    /// It has come to this end.
    pub(crate) fn ends(&mut self, end: End) {
        self.reason = Some(end.to_string());
    }

    /// It cannot go on.
    pub(crate) fn fails(&mut self, failure: &Failure) {
        self.reason = Some(failure.message.clone());
    }

    /// It goes.
    pub(crate) fn left(&mut self, reader: &Reader) {
        let stream = self.path.as_str();
        self.gaps.finish(&self.client, stream);
        let (lost_bytes, lost_chunks, position) =
            (reader.lost_bytes(), reader.lost_chunks(), reader.position());
        let bytes = position.saturating_sub(reader.start()).saturating_sub(lost_bytes);
        let reason = self.reason.as_deref().unwrap_or("its response ended or broke");
        self.client.log(|pid, uid| {
            tracing::info!(stream, pid, uid, position, bytes, lost_bytes, lost_chunks, reason, "reader left");
        });
    }
}
