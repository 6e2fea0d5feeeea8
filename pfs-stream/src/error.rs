//! Error types, one enum per operation, for streams in this process and with a daemon alike.

use std::{error::Error, fmt, io, ops::Deref, sync::Arc, time::Duration};

use thiserror::Error;

use crate::ring::Violation;

/// Error creating a stream.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A stream of this name exists.
    #[error("a stream of this name exists already")]
    Exists,
    /// The registry holds its maximum number of streams.
    #[error("{limit} streams exist, which is the maximum")]
    TooManyStreams {
        /// Streams allowed.
        limit: usize,
    },
    /// The registry's streams would take more memory than the limit.
    #[error(
        "the stream needs {needed} bytes of memory; {used} of the {limit} bytes allowed are taken"
    )]
    TooMuchMemory {
        /// Bytes that the new stream takes.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The [`Quota`](crate::Quota) holds its maximum number of streams.
    #[error("{used} of the {limit} streams that the quota allows are taken")]
    QuotaOfStreams {
        /// Streams charged to the quota.
        used: u64,
        /// Streams allowed.
        limit: u64,
    },
    /// The streams charged to the [`Quota`](crate::Quota) would take more memory than its limit.
    #[error(
        "the stream needs {needed} bytes of memory; {used} of the {limit} bytes that the quota allows are taken"
    )]
    QuotaOfMemory {
        /// Bytes that the new stream takes.
        needed: u64,
        /// Bytes that the streams charged to the quota take.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A buffer size is out of range.
    #[error("the buffer size {size} is out of range; allowed: 1 byte to {max} bytes")]
    BadSize {
        /// The requested size, in bytes.
        size: u64,
        /// The largest size, in bytes.
        max: u64,
    },
    /// The system could not allocate the ring buffer.
    #[error("the system cannot allocate the ring: {0}")]
    OutOfMemory(Arc<io::Error>),
}

// Written by hand instead of derived: thiserror's attribute `from` also makes the cause a source.
// The message contains the cause, so a printed error chain would repeat it.
impl From<io::Error> for CreateError {
    fn from(error: io::Error) -> Self {
        Self::OutOfMemory(Arc::new(error))
    }
}

/// Error attaching a reader or a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The stream is closed and takes no more writers.
    #[error("the stream is closed")]
    Closed,
    /// The stream was removed.
    #[error("the stream was removed")]
    Removed,
    /// The stream is a replica: writers append to the stream that it replicates.
    #[error("the stream is a replica, and only its link appends to it")]
    Replica,
    /// The start offset of a reader is past head.
    #[error("offset {offset} is past the end of the stream at {head}")]
    PastHead {
        /// The requested offset.
        offset: u64,
        /// Head at that moment.
        head: u64,
    },
}

/// Error appending a chunk or using a writer. A chunk is in the stream whole or not at all.
///
/// [`WriteError::from_io_error`] recovers a `WriteError` that was converted to an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The chunk is larger than the stream's maximum. Nothing of it is in the stream, and the
    /// writer can go on.
    #[error("a chunk of {size} bytes exceeds the stream's maximum of {max} bytes")]
    TooLarge {
        /// Size of the chunk in bytes.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Too many chunks to append together. None of them is in the stream, and the writer can go on.
    #[error("{count} chunks in one append exceed the stream's maximum of {max}")]
    TooMany {
        /// Number of chunks.
        count: u64,
        /// Chunks allowed.
        max: u64,
    },
    /// The ring buffer must grow for this chunk, and the memory limit leaves no room. Nothing of
    /// the chunk is in the stream, and the writer can go on.
    #[error(
        "the stream must grow to {needed} bytes for this chunk, but the memory limit leaves no room"
    )]
    NoMemory {
        /// Bytes of the larger ring buffer.
        needed: u64,
    },
    /// A `block` reader needs the room, and the append was asked not to wait. Nothing of the chunk
    /// is in the stream.
    #[error("the ring has no room; a block reader has not read the oldest chunk")]
    Full,
    /// The stream is closed and takes no more appends.
    #[error("the stream is closed")]
    Closed,
    /// The stream was removed.
    #[error("the stream was removed")]
    Removed,
    /// The daemon that held the stream has gone away. Chunks that were not flushed may or may not
    /// be in the stream.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Any other error, described by the cause.
    #[error(transparent)]
    Other(Cause),
}

/// Error that stops or interrupts a reader. None of these is the end of the stream.
///
/// [`ReadError::from_io_error`] recovers a `ReadError` that was converted to an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream was removed.
    #[error("the stream was removed")]
    Removed,
    /// The reader did not keep up, and its policy is
    /// [disconnect](pfs_proto::SlowPolicy::Disconnect).
    #[error("the reader was too slow{}", behind(*.lag))]
    TooSlow {
        /// How many bytes the reader was behind head; `None` where that is unknown, because a
        /// daemon does not tell.
        lag: Option<u64>,
    },
    /// The last writers are gone, and at least one of them died without finishing or finished as
    /// failed. Adapters that know only bytes and errors return this; as an event it is
    /// [`End::WriterDied`](pfs_proto::End::WriterDied).
    #[error("a writer died without finishing, or failed")]
    WriterDied,
    /// The stream was closed as failed: its data is incomplete. Adapters that know only bytes and
    /// errors return this; as an event it is [`End::Failed`](pfs_proto::End::Failed).
    #[error("the stream was closed as failed")]
    Failed,
    /// Nothing came for the time set on a stall detector (feature `tokio`). The only error after
    /// which reading continues.
    #[error("no data arrived for {after:?}")]
    Stalled {
        /// How long the stall detector waited.
        after: Duration,
    },
    /// The ring buffer in shared memory is corrupt: it holds values that no writer writes. The data
    /// read before is valid.
    #[error("the stream's ring is corrupt: {0}")]
    Corrupt(Violation),
    /// The daemon that held the stream has gone away.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Any other error, described by the cause.
    #[error(transparent)]
    Other(Cause),
}

fn behind(lag: Option<u64>) -> String {
    lag.map_or_else(String::new, |lag| format!(": it was {lag} bytes behind"))
}

/// Cause of an error: another error, shared by all clones.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync + 'static>);

impl Cause {
    /// Wraps an error as a cause.
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl<E: Error + Send + Sync + 'static> From<Arc<E>> for Cause {
    fn from(error: Arc<E>) -> Self {
        Self(error)
    }
}

impl From<Box<dyn Error + Send + Sync + 'static>> for Cause {
    fn from(error: Box<dyn Error + Send + Sync + 'static>) -> Self {
        Self(error.into())
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync + 'static;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Compares by identity: two causes are equal if they are the same error, not if they look alike.
impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ReadError {
    /// Returns true if every later call returns the same error. True for all errors except
    /// [`Stalled`](Self::Stalled).
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Stalled { .. })
    }

    /// Recovers the `ReadError` inside an [`io::Error`], if there is one.
    pub fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl WriteError {
    /// Recovers the `WriteError` inside an [`io::Error`], if there is one.
    pub fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::Removed => io::ErrorKind::NotFound,
            ReadError::TooSlow { .. } => io::ErrorKind::ConnectionAborted,
            ReadError::WriterDied | ReadError::Failed => io::ErrorKind::UnexpectedEof,
            ReadError::Stalled { .. } => io::ErrorKind::TimedOut,
            ReadError::Corrupt(_) => io::ErrorKind::InvalidData,
            ReadError::DaemonGone(_) => io::ErrorKind::ConnectionReset,
            ReadError::Other(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::TooLarge { .. } | WriteError::TooMany { .. } => io::ErrorKind::InvalidInput,
            WriteError::Full => io::ErrorKind::WouldBlock,
            WriteError::NoMemory { .. } => io::ErrorKind::OutOfMemory,
            WriteError::Closed => io::ErrorKind::BrokenPipe,
            WriteError::Removed => io::ErrorKind::NotFound,
            WriteError::DaemonGone(_) => io::ErrorKind::ConnectionReset,
            WriteError::Other(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
