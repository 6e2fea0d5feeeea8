//! Replica of a stream that lives at another daemon, for mounts: a stream of the registry, the link
//! that appends to it, and its media index.

use std::time::{Duration, SystemTime};

use pfs_proto::{Identity, Origin, Writers};
use pfs_stream::{Chunk, CreateError, Link, Registry, Stream, StreamConfig, Upstream, WriteError};
use tokio::sync::watch;

use crate::{
    media::{self, Indexing},
    session::Patience,
};

/// A replica, to which only the owner of this value appends.
#[derive(Debug)]
pub struct Replica {
    stream: Stream,
    link: Link,
    indexing: Indexing,
    patience: Patience,
}

impl Replica {
    /// Creates the replica of a stream in a registry. The replica begins at offset `begin`. A local
    /// `block` reader may keep the replica waiting for `max_block_time`.
    ///
    /// # Errors
    ///
    /// The registry refuses the stream: see [`CreateError`].
    pub fn create(
        registry: &Registry,
        name: &str,
        identity: Identity,
        origin: &Origin,
        content_type: Option<String>,
        begin: u64,
        max_block_time: watch::Receiver<Option<Duration>>,
    ) -> Result<Self, CreateError> {
        let config = StreamConfig {
            ring_buffer_size: origin.ring_buffer_size,
            channel_buffer_size: origin.channel_buffer_size,
            content_type,
            ..StreamConfig::default()
        };
        let upstream = Upstream { identity, created: origin.created, begin };
        let (stream, link) = registry.create_replica(name, config, &upstream)?;
        let indexing = media::replicated(&stream, origin, begin);
        let patience = Patience::new(name, link.blockers(), max_block_time);
        Ok(Self { stream, link, indexing, patience })
    }

    /// The stream that local readers follow.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The offset after the last byte or gap.
    pub fn head(&self) -> u64 {
        self.link.head()
    }

    /// Appends a chunk without waking sleeping readers; [`wake`](Self::wake) does. Waits while a
    /// local `block` reader needs the room.
    ///
    /// # Errors
    ///
    /// Those of [`Link::push`].
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, nothing is appended.
    pub async fn push(&mut self, chunk: impl Chunk, time: SystemTime) -> Result<(), WriteError> {
        let bytes = chunk.as_ref().len() as u64;
        let Self { stream, link, indexing, patience } = self;
        if !link.try_push(&chunk, time)? {
            tokio::select! {
                biased;
                pushed = link.push(chunk, time) => pushed?,
                never = patience.enforce() => match never {},
            }
        }
        indexing.appended(|| stream.clone(), bytes, link.head());
        Ok(())
    }

    /// Skips what the link has lost.
    ///
    /// # Errors
    ///
    /// Those of [`Link::skip_to`].
    pub fn skip_to(&mut self, offset: u64, chunks: u64) -> Result<(), WriteError> {
        self.link.skip_to(offset, chunks)
    }

    /// Tells readers about the writers of the stream, as of head.
    pub fn set_writers(&mut self, writers: Writers) {
        self.link.set_writers(writers);
    }

    /// Wakes sleeping readers if anything has happened since the last call.
    pub fn wake(&mut self) {
        self.link.wake();
    }

    /// Closes the replica, as complete or as failed.
    pub fn close(&mut self, failed: bool) {
        self.link.close(failed);
    }
}
