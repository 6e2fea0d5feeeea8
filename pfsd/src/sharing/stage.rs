//! A writer's staging area, as its connection sees it.

use std::io;

use pfs_proto::{ErrorCode, Reply};
use pfs_stream::{
    AppendError, Appended, Registry, Reservation, Writer,
    staging::{STAGING_MEMORY, Staged, Staging},
};

use crate::{
    failure::{Ended, Failure},
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
    pub(crate) async fn hand_out(wire: &mut Wire, registry: &Registry) -> io::Result<Option<Self>> {
        let Some(memory) = registry.reserve(STAGING_MEMORY) else { return Ok(None) };
        let area = match Staging::new() {
            Ok(area) => area,
            Err(error) => {
                tracing::warn!(%error, "a writer is served over its connection: no memory for it to share");
                return Ok(None);
            }
        };
        wire.send_with(&Reply::Staging, &[area.file()]).await?;
        Ok(Some(Self { area, _memory: memory }))
    }

    /// The chunk that comes next, if it is there.
    pub(crate) fn next_chunk(&self) -> Result<Option<Chunk>, Ended> {
        match self.area.next_chunk() {
            Ok(chunk) => Ok(chunk.map(Chunk)),
            Err(error) => Err(Failure::new(ErrorCode::Protocol, error.to_string()).into()),
        }
    }

    /// Appends it, without waking readers.
    pub(crate) async fn push(&self, writer: &mut Writer, chunk: Chunk) -> Result<Appended, AppendError> {
        writer.push_staged(&self.area, chunk.0).await
    }

    /// Gives the place of a chunk that was appended back; true if the client waits to hear of that.
    pub(crate) fn consume(&mut self, chunk: Chunk, appended: u64) -> bool {
        self.area.consume(chunk.0);
        self.area.set_appended(appended);
        self.area.producer_is_to_be_rung()
    }

    /// Tells the client how many of its chunks are in the stream.
    pub(crate) fn set_appended(&self, appended: u64) {
        self.area.set_appended(appended);
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
