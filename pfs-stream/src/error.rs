//! What can go wrong, an enum per operation, wherever the stream is: in this process or with a
//! daemon.

use std::{error::Error, fmt, io, ops::Deref, sync::Arc, time::Duration};

use thiserror::Error;

use crate::ring::Violation;

/// Why a stream was not made.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is a stream of this name.
    #[error("a stream of this name exists already")]
    Exists,
    /// The registry holds as many streams as it may.
    #[error("{limit} streams exist, and no more are allowed")]
    TooManyStreams {
        /// Streams allowed.
        limit: usize,
    },
    /// The registry's rings would take more memory than they may.
    #[error("it needs {needed} bytes of memory; {used} of the {limit} bytes allowed are taken")]
    TooMuchMemory {
        /// Bytes that the new stream takes.
        needed: u64,
        /// Bytes taken already.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// As many streams are charged to the [`Quota`](crate::Quota) as it allows.
    #[error("{used} of the {limit} streams that the quota allows are taken")]
    QuotaOfStreams {
        /// Streams that are charged to it.
        used: u64,
        /// Streams allowed.
        limit: u64,
    },
    /// The streams that are charged to the [`Quota`](crate::Quota) would take more memory than it
    /// allows.
    #[error(
        "it needs {needed} bytes of memory; {used} of the {limit} bytes that the quota allows are taken"
    )]
    QuotaOfMemory {
        /// Bytes that the new stream takes.
        needed: u64,
        /// Bytes that the streams charged to it take.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A buffer size that no stream can have.
    #[error("buffer sizes must be from 1 byte to {max} bytes, not {size}")]
    BadSize {
        /// The size asked for, in bytes.
        size: u64,
        /// The largest size, in bytes.
        max: u64,
    },
    /// The system gave no memory.
    #[error("the system gave no memory for the ring: {0}")]
    OutOfMemory(Arc<io::Error>),
}

// Not by the derive, which would make the cause, which the message has, a source that a chain of
// errors prints once more.
impl From<io::Error> for CreateError {
    fn from(error: io::Error) -> Self {
        Self::OutOfMemory(Arc::new(error))
    }
}

/// Why a reader or writer was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The stream takes no more writers.
    #[error("the stream is closed")]
    Closed,
    /// The stream is gone.
    #[error("the stream was removed")]
    Removed,
    /// A reader asked to start where nothing is yet.
    #[error("offset {offset} is past the end of the stream, which is at {head}")]
    PastHead {
        /// The offset asked for.
        offset: u64,
        /// Where head was.
        head: u64,
    },
}

/// Why a chunk was not appended, or a writer cannot go on. A chunk is in the stream whole or not at
/// all.
///
/// As an [`io::Error`] it is found again by [`WriteError::from_io_error`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The chunk is larger than the stream takes. Nothing of it is in the stream, and the writer
    /// can go on.
    #[error("a chunk of {size} bytes is larger than the {max} bytes that the stream takes at once")]
    TooLarge {
        /// Bytes of the chunk.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// There are more chunks than the stream takes together. None of them is in the stream, and the
    /// writer can go on.
    #[error("{count} chunks are more than the {max} that the stream takes at once")]
    TooMany {
        /// Chunks.
        count: u64,
        /// Chunks allowed.
        max: u64,
    },
    /// The ring of the stream must grow for the chunk, and the memory that streams may take is used
    /// up. Nothing of the chunk is in the stream, and the writer can go on.
    #[error(
        "there are no {needed} bytes of memory left, into which the stream would have to grow for this chunk"
    )]
    NoMemory {
        /// Bytes of the larger ring.
        needed: u64,
    },
    /// A `block` reader needs the room, and the append was not to wait. Nothing of the chunk is in
    /// the stream.
    #[error("a reader that has not read on yet needs the room")]
    Full,
    /// The stream takes no more appends.
    #[error("the stream is closed")]
    Closed,
    /// The stream is gone.
    #[error("the stream was removed")]
    Removed,
    /// The daemon that held the stream has gone away. What was not flushed may be in the stream or
    /// not.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Anything else; the cause says what.
    #[error(transparent)]
    Other(Cause),
}

/// Why a reader gets nothing more. None of these is the end of the stream.
///
/// As an [`io::Error`] it is found again by [`ReadError::from_io_error`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream was removed while it was read.
    #[error("the stream was removed")]
    Removed,
    /// The reader did not keep up, and its policy was to be
    /// [disconnected](pfs_proto::SlowPolicy::Disconnect) then.
    #[error("the reader was too slow{}", behind(*.lag))]
    TooSlow {
        /// How many bytes behind head it was, where that is known: a daemon does not tell.
        lag: Option<u64>,
    },
    /// The last writers are gone, and one of them died instead of finishing, or finished as failed.
    /// Adapters that only know bytes and errors say it so; as an event it is
    /// [`End::WriterDied`](pfs_proto::End::WriterDied).
    #[error("a writer died without finishing, or failed")]
    WriterDied,
    /// The stream was closed as failed: what came is not all that there should be. Adapters that
    /// only know bytes and errors say it so; as an event it is
    /// [`End::Failed`](pfs_proto::End::Failed).
    #[error("the stream was closed as failed")]
    Failed,
    /// Nothing came for so long, as a stall detector (feature `tokio`) was asked to tell. The one
    /// error after which reading goes on.
    #[error("nothing came for {after:?}")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
    /// The memory that the reader shares with the stream's writer holds what no writer writes. What
    /// was read before is right.
    #[error("the stream's ring was spoiled: {0}")]
    Spoiled(Violation),
    /// The daemon that held the stream has gone away.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Anything else; the cause says what.
    #[error(transparent)]
    Other(Cause),
}

fn behind(lag: Option<u64>) -> String {
    lag.map_or_else(String::new, |lag| format!(": it was {lag} bytes behind"))
}

/// What caused an error: another error, which all clones share.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync + 'static>);

impl Cause {
    /// This error as a cause.
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

/// Whether both are the same error, and not only alike.
impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ReadError {
    /// Whether nothing follows it but itself. So it is with all but [`Stalled`](Self::Stalled).
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Stalled { .. })
    }

    /// The one that this error stands for, if it does.
    pub fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl WriteError {
    /// The one that this error stands for, if it does.
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
            ReadError::Spoiled(_) => io::ErrorKind::InvalidData,
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
