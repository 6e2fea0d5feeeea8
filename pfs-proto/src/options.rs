//! Options of the requests that create, write and read a stream.

use std::{fmt, str::FromStr, time::Duration};

/// The longest media type of a stream, in bytes.
pub const MAX_CONTENT_TYPE: usize = 255;

/// Slow policy: how a reader that cannot keep up is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a new variant is a new version of the protocol")]
pub enum SlowPolicy {
    /// The reader loses its oldest chunks and is told the lost range. The default.
    #[default]
    Drop,
    /// Back-pressure: writers wait for the reader, which loses no byte.
    Block,
    /// The reader is disconnected with a dedicated error.
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

/// The error for a word that does not name a [`SlowPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slow policy is drop, block or disconnect")]
pub struct UnknownPolicy;

/// The start position of a new reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new variant is a new version of the protocol")]
pub enum Start {
    /// The start of the history: the oldest chunk that starts no more than the stream's ring buffer
    /// size before head. The default.
    #[default]
    Oldest,
    /// Head: only chunks that are appended from now on.
    New,
    /// This many bytes before head, exact to the byte and possibly inside a chunk, whose rest is
    /// then the first chunk read. Starts at tail if the ring holds fewer bytes.
    Tail(u64),
    /// The oldest chunk that was appended within this time and is still in the ring.
    Since(Duration),
    /// This offset, exact to the byte and possibly inside a chunk. Below tail, reading begins with
    /// a gap; past head, it is an error.
    Offset(u64),
}

/// How a reader joins a stream of media or text, whose contents cannot be used from every offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a new variant is a new version of the protocol")]
pub enum Join {
    /// The reader gets exact bytes from its start on. The default.
    #[default]
    Raw,
    /// A reader of media that starts neither at offset 0 nor at an offset of its choice gets what a
    /// decoder needs: the header in effect, and then the stream from a sync point on. So does a
    /// reader of a stream whose writer names the header or the sync points. Any other reader gets
    /// exact bytes.
    Auto,
    /// Like [`Auto`](Self::Auto), and a reader of text starts with a whole line. A reader of CSV
    /// gets the first line of the stream as the header.
    Sync,
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Auto => "auto",
            Self::Sync => "sync",
        })
    }
}

impl FromStr for Join {
    type Err = UnknownJoin;

    fn from_str(join: &str) -> Result<Self, UnknownJoin> {
        match join {
            "raw" => Ok(Self::Raw),
            "auto" => Ok(Self::Auto),
            "sync" => Ok(Self::Sync),
            _ => Err(UnknownJoin),
        }
    }
}

/// The error for a word that does not name a [`Join`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a way to join is auto, sync or raw")]
pub struct UnknownJoin;

/// The end condition of a reader. Every reader also ends when its stream is closed, as failed or
/// not, and the reader has read to head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new variant is a new version of the protocol")]
pub enum Until {
    /// Ends only when the stream is closed. The default.
    #[default]
    Closed,
    /// Ends as soon as the reader has reached the offset that was head when it attached.
    CaughtUp,
    /// Ends when at least one writer has written and the last writer has finished, like a FIFO.
    WritersGone,
}

/// The reason why a reader's stream ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "every reader must handle every kind of end")]
pub enum End {
    /// The stream is closed and the reader has read to head.
    Closed,
    /// [`Until::CaughtUp`] was reached.
    CaughtUp,
    /// [`Until::WritersGone`] was reached and every writer has finished.
    WritersGone,
    /// [`Until::WritersGone`] was reached, but a writer died or finished as failed.
    WriterDied,
    /// The stream was closed as failed and the reader has read to head: the data is incomplete.
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

/// Name conflict policy: how creating a stream treats an existing stream of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a new variant is a new version of the protocol")]
pub enum IfExists {
    /// Fails and leaves the existing stream unchanged. The default.
    #[default]
    Fail,
    /// Keeps the existing stream, whatever its options are. Fails if that stream is closed.
    Keep,
    /// Replaces the existing stream with a new one atomically: clients always find one of the two.
    Replace,
}

/// Options for creating a stream. Sizes are in bytes; `None` selects the daemon's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes of history that a new reader gets, at least 1.
    pub ring_buffer_size: Option<u64>,
    /// Bytes that a live reader may lag before its slow policy acts, at least 1.
    pub channel_buffer_size: Option<u64>,
    /// Time to live: remove the stream when nothing has been appended for this long.
    pub ttl: Option<Duration>,
    /// Media type of the contents, at most [`MAX_CONTENT_TYPE`] bytes. Passed on to readers. Of the
    /// daemon's parts, only the protocols over HTTP interpret the media type.
    pub content_type: Option<String>,
    /// How to treat an existing stream of the same name.
    pub if_exists: IfExists,
    /// Whether to reserve the memory for everything that the stream may hold. Creating the stream
    /// fails if that memory is not available. Without a reservation the stream takes memory as it
    /// grows, and keeps less history if there is no more.
    pub reserve: bool,
}

impl CreateOptions {
    /// Sets the bytes of history that a new reader gets, at least 1.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { ring_buffer_size: Some(bytes), ..self }
    }

    /// Sets the bytes that a live reader may lag before its slow policy acts, at least 1.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { channel_buffer_size: Some(bytes), ..self }
    }

    /// Sets the time to live: the stream is removed when nothing has been appended for this long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Sets the media type of the contents, at most [`MAX_CONTENT_TYPE`] bytes.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// Sets how to treat an existing stream of the same name.
    #[must_use]
    pub fn if_exists(self, if_exists: IfExists) -> Self {
        Self { if_exists, ..self }
    }

    /// Sets whether to reserve the memory for everything that the stream may hold.
    #[must_use]
    pub fn reserve(self, reserve: bool) -> Self {
        Self { reserve, ..self }
    }
}

/// Options for putting one chunk into a stream. By default the chunk is appended to the existing
/// stream, or to a new one with the daemon's defaults if there is none, and the stream stays open.
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
    /// How to create the stream, and how to treat an existing one: [`IfExists::Keep`] appends the
    /// chunk to the existing stream.
    pub create: CreateOptions,
    /// Whether to close the stream after the chunk.
    pub close: bool,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self { create: CreateOptions::default().if_exists(IfExists::Keep), close: false }
    }
}

impl PutOptions {
    /// Sets the bytes of history that a new reader gets, at least 1, if the stream is created.
    #[must_use]
    pub fn ring_buffer_size(self, bytes: u64) -> Self {
        Self { create: self.create.ring_buffer_size(bytes), ..self }
    }

    /// Sets the bytes that a live reader may lag before its slow policy acts, at least 1, if the
    /// stream is created.
    #[must_use]
    pub fn channel_buffer_size(self, bytes: u64) -> Self {
        Self { create: self.create.channel_buffer_size(bytes), ..self }
    }

    /// Sets the time to live, if the stream is created: it is removed when nothing has been
    /// appended for this long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { create: self.create.ttl(ttl), ..self }
    }

    /// Sets the media type of a stream that the put creates, at most [`MAX_CONTENT_TYPE`] bytes.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { create: self.create.content_type(content_type), ..self }
    }

    /// Sets how to treat an existing stream of the same name: fail the put, append the chunk to the
    /// stream, or replace the stream.
    #[must_use]
    pub fn if_exists(self, if_exists: IfExists) -> Self {
        Self { create: self.create.if_exists(if_exists), ..self }
    }

    /// Sets whether to close the stream after the chunk.
    #[must_use]
    pub fn close(self, close: bool) -> Self {
        Self { close, ..self }
    }
}

/// Options for reading a stream. By default a reader starts with the history,
/// [loses](SlowPolicy::Drop) the chunks that it is too slow for, ends when the stream is closed,
/// and does not wait for a stream that does not exist.
///
/// ```
/// # use std::time::Duration;
/// # use pfs_proto::{ReadOptions, SlowPolicy, Start, Until};
/// let options = ReadOptions::default().start(Start::Since(Duration::from_secs(60))).policy(SlowPolicy::Block);
/// assert_eq!(options, ReadOptions { until: Until::Closed, wait: false, ..options });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The start position.
    pub start: Start,
    /// How to treat the reader if it cannot keep up.
    pub policy: SlowPolicy,
    /// When the reader ends.
    pub until: Until,
    /// Whether to wait for the creation of a stream that does not exist, instead of failing.
    pub wait: bool,
    /// How to join media in the middle. Only readers of a daemon's stream join; a reader of a
    /// `pfs_stream::Stream` in this process gets exact bytes.
    pub join: Join,
}

impl ReadOptions {
    /// Sets the start position.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Sets how to treat the reader if it cannot keep up.
    #[must_use]
    pub fn policy(self, policy: SlowPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Sets when the reader ends.
    #[must_use]
    pub fn until(self, until: Until) -> Self {
        Self { until, ..self }
    }

    /// Sets whether to wait for the creation of a stream that does not exist.
    #[must_use]
    pub fn wait(self, wait: bool) -> Self {
        Self { wait, ..self }
    }

    /// Sets how to join media in the middle.
    #[must_use]
    pub fn join(self, join: Join) -> Self {
        Self { join, ..self }
    }
}

/// Options for writing a stream. By default a writer waits for no reader, and appends to the
/// existing stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Wait until this many readers are attached before the first append.
    pub wait_readers: u32,
    /// Replace an existing stream, closed or not, with a new one, like [`IfExists::Replace`].
    pub replace: bool,
    /// The writer begins with a header of this many bytes, best in a chunk of its own. Readers that
    /// [join](Join::Auto) later get a copy of the header, and then start at a chunk: at any chunk
    /// after the header, or, once the writer has marked sync points, at one of them. The daemon then
    /// looks for no other header and no other sync points. 0: the writer names no header.
    pub header_bytes: u32,
}

impl WriteOptions {
    /// Sets how many readers must be attached before the first append.
    #[must_use]
    pub fn wait_readers(self, readers: u32) -> Self {
        Self { wait_readers: readers, ..self }
    }

    /// Sets whether to replace an existing stream with a new one.
    #[must_use]
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }

    /// Sets the size of the header with which the writer begins, in bytes.
    #[must_use]
    pub fn header_bytes(self, header_bytes: u32) -> Self {
        Self { header_bytes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_parses_back_from_its_name() {
        for policy in [SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("Drop".parse::<SlowPolicy>(), Err(UnknownPolicy));
    }

    #[test]
    fn a_way_to_join_parses_back_from_its_name() {
        for join in [Join::Raw, Join::Auto, Join::Sync] {
            assert_eq!(join.to_string().parse(), Ok(join));
        }
        assert_eq!("media".parse::<Join>(), Err(UnknownJoin));
    }
}

/// The sizes of a ring buffer in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Bytes of data that the ring holds.
    pub capacity: u64,
    /// Entries of the ring's index. `None` for a ring of the stream's full size, whose other sizes
    /// follow from its capacity.
    pub entries: Option<u64>,
}

/// The start state of an shm reader, which reads the ring directly. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShmStart {
    /// The sizes of the ring.
    pub layout: RingLayout,
    /// How far a live reader may lag.
    pub channel_buffer_size: u64,
    /// Sequence number of the first chunk to read.
    pub seq: u64,
    /// The first offset to read.
    pub offset: u64,
    /// The offset up to which the reader must first report a gap.
    pub missing: Option<u64>,
    /// How to treat the reader if it cannot keep up.
    pub policy: SlowPolicy,
    /// When the reader ends.
    pub until: Until,
    /// Head when the reader attached.
    pub head: u64,
    /// Writers that had died before the first of the present (or last) writers attached.
    pub deaths_before: u64,
    /// Whether the reader begins at head.
    pub live: bool,
    /// Whether a writer in another process appends to the ring.
    pub leased: bool,
}

/// The start state of a lease: the current contents of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the holder of a lease must know every field")]
pub struct LeaseStart {
    /// Sequence number and offset of the oldest chunk.
    pub tail: (u64, u64),
    /// Sequence number and offset of the next chunk.
    pub head: (u64, u64),
    /// The time of the newest append, in microseconds since the Unix epoch.
    pub newest: u64,
    /// The largest chunk that the stream accepts, in bytes.
    pub max_chunk: u64,
    /// The number of descriptors that the message carries: the pages of all `block` readers, or 0
    /// if the holder must ask the daemon for room.
    pub pages: u32,
}
