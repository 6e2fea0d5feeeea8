//! How large a stream and a registry may be.

use std::time::{Duration, SystemTime};

use crate::{
    CreateError, WriteError,
    ring::{Layout, MAX_RING_BYTES},
    state::overhead,
};

use pfs_proto::Peer;

/// 6 MiB, the size that StreamFS gives both buffers.
pub const DEFAULT_BUFFER_SIZE: u64 = 6 * 1024 * 1024;

/// How a stream is made. Sizes in bytes, at least 1, and [`DEFAULT_BUFFER_SIZE`] by default. The
/// ring is as large as the larger of both buffers, the [largest chunk](Self::max_chunk) as the
/// smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// How much history a new reader gets.
    pub ring_buffer_size: u64,
    /// How far a reader that was live may lag before its slow policy acts.
    pub channel_buffer_size: u64,
    /// Remove the stream when it was not used for this long: nothing appended, and not
    /// [renewed](crate::Stream::renew).
    pub ttl: Option<Duration>,
    /// Remove the stream at this time, whatever is done with it.
    pub deadline: Option<SystemTime>,
    /// Media type of the contents; kept for readers, never interpreted.
    pub content_type: Option<String>,
    /// Who makes it; kept for its stats.
    pub owner: Peer,
    /// Whether it takes the memory for all that it may hold when it is made. Otherwise it takes
    /// more as it needs more.
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
    /// This configuration, with both buffers of so many bytes, at least 1.
    #[must_use]
    pub fn buffer_size(self, bytes: u64) -> Self {
        self.ring_buffer_size(bytes).channel_buffer_size(bytes)
    }

    /// This configuration, with so much history for a new reader, in bytes, at least 1.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { ring_buffer_size: bytes, ..self }
    }

    /// This configuration, with a live reader that may lag by so many bytes, at least 1, before its
    /// slow policy acts.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { channel_buffer_size: bytes, ..self }
    }

    /// This configuration, with a stream that is removed when it was not used for so long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// This configuration, with a stream that is removed at this time.
    #[must_use]
    pub fn deadline(self, deadline: SystemTime) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// This configuration, with this media type of the contents.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// This configuration, for a stream that this one makes.
    #[must_use]
    pub fn owner(self, owner: Peer) -> Self {
        Self { owner, ..self }
    }

    /// This configuration, with a stream that takes the memory for all that it may hold when it is
    /// made, or not.
    #[must_use]
    pub fn reserve(self, reserve: bool) -> Self {
        Self { reserve, ..self }
    }

    /// Bytes of memory that a stream of this name takes at full size.
    ///
    /// # Errors
    ///
    /// [`CreateError::BadSize`].
    pub fn full_memory(&self, name: &str) -> Result<u64, CreateError> {
        self.check()?;
        Ok(self.layout().bytes() + overhead(name))
    }

    /// Whether the sizes are possible.
    pub(crate) fn check(&self) -> Result<(), CreateError> {
        for size in [self.ring_buffer_size, self.channel_buffer_size] {
            if !(1..=MAX_RING_BYTES).contains(&size) {
                return Err(CreateError::BadSize { size, max: MAX_RING_BYTES });
            }
        }
        Ok(())
    }

    /// The layout of a ring of full size.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.ring_buffer_size.max(self.channel_buffer_size))
    }

    /// The layout of the first ring.
    pub(crate) fn first_layout(&self) -> Layout {
        if self.reserve { self.layout() } else { self.layout().initial() }
    }

    /// The largest chunk that every reader can be given: one that fits a new reader's history
    /// and does not by itself make a live reader lag too far.
    pub fn max_chunk(&self) -> u64 {
        self.ring_buffer_size.min(self.channel_buffer_size)
    }

    /// The bytes of chunks that are appended together.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] or [`WriteError::TooMany`] if that is more than the stream takes at
    /// once.
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

/// What the streams of a registry, or of one owner in it, may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams at a time.
    pub max_streams: usize,
    /// Bytes of all rings as they are, with indexes and headers, whether touched yet or not, and
    /// of what is beside them.
    pub max_memory: u64,
}

impl Limits {
    /// No limit at all.
    pub const UNLIMITED: Self = Self { max_streams: usize::MAX, max_memory: u64::MAX };

    /// Streams at a time whose memory other processes can be given: as many as there may be, and as
    /// `max_memory` has room for.
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
