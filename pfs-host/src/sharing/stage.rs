//! A writer's staging area, as its connection sees it.

use std::io;

use pfs_proto::{ErrorCode, Reply, StreamPath};
use pfs_stream::{
    Appended, PushEnd, Pushed, Registry, Reservation, WriteError, Writer,
    staging::{STAGING_MEMORY, STAGING_SIZE, Staged, Staging, StagingError},
};

use crate::{
    failure::{Ended, Failure},
    pushed::{Next, PushedAll},
    transport::Transport,
    wire::Wire,
};

/// The area, and its part of the memory that all streams may take.
#[derive(Debug)]
pub(crate) struct Stage {
    area: Staging,
    _memory: Reservation,
}

/// A chunk in the area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk(Staged);

impl Chunk {
    pub(crate) fn size(self) -> usize {
        self.0.size()
    }
}

impl Stage {
    /// Hands an area to the client, if there is memory for one. Without, chunks come over the connection.
    pub(crate) async fn hand_out<T: Transport>(
        wire: &mut Wire<T>,
        registry: &Registry,
    ) -> io::Result<Option<Self>> {
        let Some(memory) = registry.reserve(STAGING_MEMORY) else { return Ok(None) };
        let mut area = match Staging::new() {
            Ok(area) => area,
            Err(error) => {
                tracing::debug!(%error, "a writer is served over its connection: no memory for it to share");
                return Ok(None);
            }
        };
        let Some(file) = area.file() else { return Ok(None) };
        wire.send_with(&Reply::Staging, &[file]).await?;
        area.close_file();
        Ok(Some(Self { area, _memory: memory }))
    }

    /// The chunk that comes next, if it is there.
    pub(crate) fn next_chunk(&self) -> Result<Option<Chunk>, Ended> {
        match self.area.next_chunk() {
            Ok(chunk) => Ok(chunk.map(Chunk)),
            Err(error) => Err(Failure::new(ErrorCode::Protocol, error.to_string()).into()),
        }
    }

    /// How much was taken out of it since the beginning.
    pub(crate) fn consumed(&self) -> u64 {
        self.area.consumed()
    }

    /// Whether all that was there has been taken out since it was as much as `before`.
    pub(crate) fn has_gone_round_since(&self, before: u64) -> bool {
        self.area.consumed().wrapping_sub(before) >= STAGING_SIZE
    }

    /// Appends what is there, at most about so many bytes, without waking readers.
    pub(crate) fn push_all(&mut self, writer: &mut Writer, path: &StreamPath, most: u64) -> PushedAll {
        let Pushed { chunks, bytes, offset, end } = writer.try_push_staged(&mut self.area, most);
        let next = match end {
            PushEnd::Empty => Next::Nothing,
            PushEnd::Enough => Next::More,
            PushEnd::Full => Next::Wait,
            PushEnd::Failed(StagingError::Append(error)) => Next::Failed(Failure::appending(path, error)),
            PushEnd::Failed(error) => Next::Failed(Failure::new(ErrorCode::Protocol, error.to_string())),
        };
        PushedAll { chunks, bytes, offset, next }
    }

    /// Appends it, without waking readers.
    pub(crate) async fn push(&self, writer: &mut Writer, chunk: Chunk) -> Result<Appended, WriteError> {
        writer.push_staged(&self.area, chunk.0).await
    }

    /// Gives the place of a chunk that was appended back.
    pub(crate) fn consume(&mut self, chunk: Chunk) {
        self.area.consume(chunk.0);
    }

    /// Tells the client how many of its chunks are in the stream, and how many readers there are; true if it waits to hear
    /// of that.
    pub(crate) fn tell(&self, appended: u64, readers: u32) -> bool {
        self.area.set_appended(appended, readers);
        self.area.producer_is_to_be_rung()
    }

    /// Asks the client to ring; true if nothing is there yet.
    pub(crate) fn may_sleep(&self) -> bool {
        self.area.may_sleep()
    }

    /// Tells the client that nothing more is taken; why, it is told over the connection.
    pub(crate) fn abandon(&self) {
        self.area.abandon();
    }
}
