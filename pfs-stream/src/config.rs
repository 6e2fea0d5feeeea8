//! Configuration of a stream, and limits of a registry.

use std::time::{Duration, SystemTime};

use crate::{
    CreateError, WriteError,
    ring::{Layout, MAX_RING_BYTES},
    state::overhead,
};

use pfs_proto::Peer;

/// Default size of both buffers: 6 MiB, as in StreamFS.
pub const DEFAULT_BUFFER_SIZE: u64 = 6 * 1024 * 1024;

/// Configuration of a stream. Sizes are in bytes, at least 1, and [`DEFAULT_BUFFER_SIZE`] by
/// default. The ring buffer is as large as the larger of the two buffers; the [largest
/// chunk](Self::max_chunk) is as large as the smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Size of the history that a new reader gets.
    pub ring_buffer_size: u64,
    /// How far a reader that has been live may lag before its `drop` or `disconnect` policy acts. A
    /// `block` reader may lag by the whole ring buffer.
    pub channel_buffer_size: u64,
    /// Time to live: remove the stream when it has not been used for this long. An append or a
    /// [renewal](crate::Stream::renew) counts as use; reading does not.
    pub ttl: Option<Duration>,
    /// Deadline: remove the stream at this time, whether it is in use or not.
    pub deadline: Option<SystemTime>,
    /// Media type of the contents. Stored for readers; the engine never interprets it.
    pub content_type: Option<String>,
    /// The creator of the stream. Stored for its stats.
    pub owner: Peer,
    /// Allocate memory for the full ring buffer when the stream is created. Otherwise the ring
    /// buffer starts small and grows when needed.
    pub reserve: bool,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            ring_buffer_size: DEFAULT_BUFFER_SIZE,
            channel_buffer_size: DEFAULT_BUFFER_SIZE,
            ttl: None,
            deadline: None,
            content_type: None,
            owner: Peer::default(),
            reserve: false,
        }
    }
}

impl StreamConfig {
    /// Sets the size of both buffers, in bytes, at least 1.
    #[must_use]
    pub fn buffer_size(self, bytes: u64) -> Self {
        self.ring_buffer_size(bytes).channel_buffer_size(bytes)
    }

    /// Sets the size of the history that a new reader gets, in bytes, at least 1.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { ring_buffer_size: bytes, ..self }
    }

    /// Sets how far a reader that has been live may lag before its slow policy acts, in bytes, at
    /// least 1.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { channel_buffer_size: bytes, ..self }
    }

    /// Sets the time to live: the stream is removed when it has not been used for `ttl`.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Sets the deadline: the stream is removed at this time.
    #[must_use]
    pub fn deadline(self, deadline: SystemTime) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets the media type of the contents.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// Sets the creator of the stream.
    #[must_use]
    pub fn owner(self, owner: Peer) -> Self {
        Self { owner, ..self }
    }

    /// Sets whether memory for the full ring buffer is allocated when the stream is created.
    #[must_use]
    pub fn reserve(self, reserve: bool) -> Self {
        Self { reserve, ..self }
    }

    /// Memory in bytes that a stream of this name takes at full size.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`].
    pub fn full_memory(&self, name: &str) -> Result<u64, CreateError> {
        self.check()?;
        Ok(self.layout().bytes() + overhead(name))
    }

    /// Validates the sizes.
    pub(crate) fn check(&self) -> Result<(), CreateError> {
        for size in [self.ring_buffer_size, self.channel_buffer_size] {
            if !(1..=MAX_RING_BYTES).contains(&size) {
                return Err(CreateError::BadSize { size, max: MAX_RING_BYTES });
            }
        }
        Ok(())
    }

    /// Layout of the ring buffer at full size.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.ring_buffer_size.max(self.channel_buffer_size))
    }

    /// Layout of the ring buffer at creation.
    pub(crate) fn first_layout(&self) -> Layout {
        if self.reserve { self.layout() } else { self.layout().initial() }
    }

    /// The largest chunk that every reader can get, in bytes: it fits a new reader's history and
    /// does not by itself make a live reader lag too far.
    pub fn max_chunk(&self) -> u64 {
        self.ring_buffer_size.min(self.channel_buffer_size)
    }

    /// The total size in bytes of chunks that are appended together.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] or [`WriteError::TooMany`] if the stream does not accept that much
    /// at once.
    pub fn total<'a>(
        &self,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<usize, WriteError> {
        let (mut size, mut count) = (0_usize, 0_u64);
        for chunk in chunks {
            size = size.saturating_add(chunk.len());
            count += 1;
        }
        let max = self.layout().max_chunks();
        if size as u64 > self.max_chunk() {
            return Err(WriteError::TooLarge { size: size as u64, max: self.max_chunk() });
        }
        if count > max {
            return Err(WriteError::TooMany { count, max });
        }
        Ok(size)
    }
}

/// Limits on all streams of a registry, or on those of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of streams at a time.
    pub max_streams: usize,
    /// Maximum memory in bytes. Counts all ring buffers at their present size, with indexes and
    /// headers, whether their pages were touched or not, and the overhead of each stream.
    pub max_memory: u64,
}

impl Limits {
    /// No limits.
    pub const UNLIMITED: Self = Self { max_streams: usize::MAX, max_memory: u64::MAX };

    /// The maximum number of streams whose memory can be shared with other processes at a time:
    /// `max_streams`, or fewer if `max_memory` has no room for that many.
    pub fn max_shared_streams(self) -> u64 {
        let smallest = Layout::new(1).bytes();
        (self.max_streams as u64).min(self.max_memory / smallest)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_streams: 1_000_000, max_memory: 1024 * 1024 * 1024 }
    }
}
