//! What a client asks for when it creates, writes or reads a stream.

use std::{fmt, str::FromStr, time::Duration};

/// The longest media type of a stream, in bytes.
pub const MAX_CONTENT_TYPE: usize = 255;

/// What happens to a reader that cannot keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a new one is a new version of the protocol")]
pub enum SlowPolicy {
    /// It loses its oldest chunks, and is told which range. The default.
    #[default]
    Drop,
    /// Writers wait for it instead of losing a byte.
    Block,
    /// It is disconnected with an error of its own.
    Disconnect,
}

impl fmt::Display for SlowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Drop => "drop",
            Self::Block => "block",
            Self::Disconnect => "disconnect",
        })
    }
}

impl FromStr for SlowPolicy {
    type Err = UnknownPolicy;

    fn from_str(policy: &str) -> Result<Self, UnknownPolicy> {
        match policy {
            "drop" => Ok(Self::Drop),
            "block" => Ok(Self::Block),
            "disconnect" => Ok(Self::Disconnect),
            _ => Err(UnknownPolicy),
        }
    }
}

/// A word that is not the name of a [`SlowPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slow policy is drop, block or disconnect")]
pub struct UnknownPolicy;

/// Where a new reader starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new one is a new version of the protocol")]
pub enum Start {
    /// At the oldest chunk within the stream's ring buffer size of head. The default.
    #[default]
    Oldest,
    /// At head: only what is appended from now on.
    New,
    /// This many bytes before head, to the byte, even inside a chunk; at tail if the ring holds
    /// fewer. The first chunk is then the rest of one.
    Tail(u64),
    /// At the oldest chunk that was appended within this time (and is still in the ring).
    Since(Duration),
    /// At this offset, to the byte, even inside a chunk. Below tail it begins with a gap; past
    /// head it is an error.
    Offset(u64),
}

/// When a reader's stream ends. It always ends when the stream is closed, as failed or not, and
/// read to head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new one is a new version of the protocol")]
pub enum Until {
    /// Only when the stream is closed. The default.
    #[default]
    Closed,
    /// As soon as it has reached what was head when it attached.
    CaughtUp,
    /// When at least one writer has written and the last one has finished, as a FIFO does it.
    WritersGone,
}

/// The end of what a reader gets that is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "nobody may take an end that they do not know for another one"
)]
pub enum End {
    /// The stream is closed and was read to head.
    Closed,
    /// [`Until::CaughtUp`] was reached.
    CaughtUp,
    /// [`Until::WritersGone`] was reached and every writer had finished.
    WritersGone,
    /// [`Until::WritersGone`] was reached, but a writer died without finishing, or finished as
    /// failed.
    WriterDied,
    /// The stream was closed as failed, and was read to head: what it held is not all that there
    /// should be.
    Failed,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::CaughtUp => "caught-up",
            Self::WritersGone => "writers-gone",
            Self::WriterDied => "writer-died",
            Self::Failed => "failed",
        })
    }
}

/// What creating a stream does where there is one of that name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new one is a new version of the protocol")]
pub enum IfExists {
    /// It is an error, and the stream stays as it is. The default.
    #[default]
    Fail,
    /// The stream stays as it is, whatever its options are. It is an error if that is closed.
    Keep,
    /// The stream is removed, and a new one takes its place in the same step: nobody finds neither.
    Replace,
}

/// How a stream is made. Sizes in bytes; `None` takes the daemon's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// How much history a new reader gets, at least 1.
    pub ring_buffer_size: Option<u64>,
    /// How far a live reader may lag before its slow policy acts, at least 1.
    pub channel_buffer_size: Option<u64>,
    /// Remove the stream when nothing was appended for this long.
    pub ttl: Option<Duration>,
    /// Media type of the contents; told to readers, never interpreted. At most
    /// [`MAX_CONTENT_TYPE`] bytes.
    pub content_type: Option<String>,
    /// What happens if there is a stream of that name.
    pub if_exists: IfExists,
    /// Whether it takes the memory for all that it may hold when it is made, or is not made.
    /// Otherwise it takes more as it needs more, and keeps less history where there is none.
    pub reserve: bool,
}

impl CreateOptions {
    /// These options, with so much history for a new reader, in bytes, at least 1.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { ring_buffer_size: Some(bytes), ..self }
    }

    /// These options, with a live reader that may lag by so many bytes, at least 1, before its slow
    /// policy acts.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { channel_buffer_size: Some(bytes), ..self }
    }

    /// These options, with a stream that is removed when nothing was appended for so long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// These options, with this media type of the contents, of at most [`MAX_CONTENT_TYPE`] bytes.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// These options, with this for the case that there is a stream of that name.
    #[must_use]
    pub fn if_exists(self, if_exists: IfExists) -> Self {
        Self { if_exists, ..self }
    }

    /// These options, with a stream that takes the memory for all that it may hold when it is made,
    /// or not.
    #[must_use]
    pub fn reserve(self, reserve: bool) -> Self {
        Self { reserve, ..self }
    }
}

/// How a chunk is put into a stream. By default it is appended to the stream that there is, one is
/// made with the daemon's defaults if there is none, and the stream stays open.
///
/// ```
/// # use std::time::Duration;
/// # use pfs_proto::{IfExists, PutOptions};
/// // One chunk is all that the stream ever holds, for an hour.
/// let job = PutOptions::default().if_exists(IfExists::Fail).ttl(Duration::from_secs(3600)).close(true);
/// assert!(job.close);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// How the stream is made, and what happens where there is one: with [`IfExists::Keep`] the
    /// chunk is appended to that.
    pub create: CreateOptions,
    /// Close the stream after the chunk.
    pub close: bool,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self { create: CreateOptions::default().if_exists(IfExists::Keep), close: false }
    }
}

impl PutOptions {
    /// These options, with so much history for a new reader, in bytes, at least 1, where the stream
    /// is made.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { create: self.create.ring_buffer_size(bytes), ..self }
    }

    /// These options, with a live reader that may lag by so many bytes, at least 1, before its slow
    /// policy acts, where the stream is made.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { create: self.create.channel_buffer_size(bytes), ..self }
    }

    /// These options, with a stream that is removed when nothing was appended for so long, where
    /// the stream is made.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { create: self.create.ttl(ttl), ..self }
    }

    /// These options, with this media type of the contents, of at most [`MAX_CONTENT_TYPE`] bytes,
    /// where the stream is made.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { create: self.create.content_type(content_type), ..self }
    }

    /// These options, with this for the case that there is a stream of that name: the put fails,
    /// the chunk is appended to it, or it is replaced.
    #[must_use]
    pub fn if_exists(self, if_exists: IfExists) -> Self {
        Self { create: self.create.if_exists(if_exists), ..self }
    }

    /// These options, with the stream closed after the chunk, or not.
    #[must_use]
    pub fn close(self, close: bool) -> Self {
        Self { close, ..self }
    }
}

/// How a reader reads. By default it starts with the history, [loses](SlowPolicy::Drop) what it is
/// too slow for, ends when the stream is closed, and does not wait for a stream that does not
/// exist.
///
/// ```
/// # use std::time::Duration;
/// # use pfs_proto::{ReadOptions, SlowPolicy, Start, Until};
/// let options = ReadOptions::default().start(Start::Since(Duration::from_secs(60))).policy(SlowPolicy::Block);
/// assert_eq!(options, ReadOptions { until: Until::Closed, wait: false, ..options });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Where to start.
    pub start: Start,
    /// What to do when it cannot keep up.
    pub policy: SlowPolicy,
    /// When to end.
    pub until: Until,
    /// A stream that does not exist: wait for its creation, or else fail.
    pub wait: bool,
}

impl ReadOptions {
    /// These options, with this start.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// These options, with this for the case that the reader cannot keep up.
    #[must_use]
    pub fn policy(self, policy: SlowPolicy) -> Self {
        Self { policy, ..self }
    }

    /// These options, with this end.
    #[must_use]
    pub fn until(self, until: Until) -> Self {
        Self { until, ..self }
    }

    /// These options, with a reader that waits for the creation of its stream, or does not.
    #[must_use]
    pub fn wait(self, wait: bool) -> Self {
        Self { wait, ..self }
    }
}

/// How a writer writes. By default it waits for no reader, and appends to the stream that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Do not begin before this many readers are attached.
    pub wait_readers: u32,
    /// Begin a new stream in place of one that there is, closed or not, as [`IfExists::Replace`]
    /// does.
    pub replace: bool,
}

impl WriteOptions {
    /// These options, with a writer that does not begin before so many readers are attached.
    #[must_use]
    pub fn wait_readers(self, readers: u32) -> Self {
        Self { wait_readers: readers, ..self }
    }

    /// These options, with a new stream in place of one that there is, or without.
    #[must_use]
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for policy in [SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("Drop".parse::<SlowPolicy>(), Err(UnknownPolicy));
    }
}

/// The sizes of a ring in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Bytes of data that the ring holds.
    pub capacity: u64,
    /// Entries of its index. `None` for a ring of the stream's full size, whose other sizes follow
    /// from its capacity.
    pub entries: Option<u64>,
}

/// Where a reader begins that was handed the ring itself. Offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShmStart {
    /// The ring.
    pub layout: RingLayout,
    /// How far it may lag once it was live.
    pub channel_buffer_size: u64,
    /// Number of the chunk that it reads first.
    pub seq: u64,
    /// Offset that it reads first.
    pub offset: u64,
    /// Offset up to which it must first report a gap.
    pub missing: Option<u64>,
    /// What happens when it cannot keep up.
    pub policy: SlowPolicy,
    /// When it ends.
    pub until: Until,
    /// Head when it attached.
    pub head: u64,
    /// Writers that had died before those whose end it sees.
    pub deaths_before: u64,
    /// Whether it begins at head.
    pub live: bool,
    /// Whether a writer of another process appends to the ring.
    pub leased: bool,
}

/// Where a lease begins: with what the ring holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "who holds the lease must know every field")]
pub struct LeaseStart {
    /// Number and offset of the oldest chunk.
    pub tail: (u64, u64),
    /// Number and offset of the next chunk.
    pub head: (u64, u64),
    /// When the newest chunk was appended, in microseconds since the Unix epoch.
    pub newest: u64,
    /// The largest chunk that the stream takes, in bytes.
    pub max_chunk: u64,
    /// Descriptors that come along: the pages of all `block` readers, or none if the daemon must
    /// be asked for room.
    pub pages: u32,
}
