//! What can go wrong for whoever follows or writes a stream, wherever the stream is.

use std::{error::Error, io, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{AppendError, ReadError};

/// A cause that can be told to several.
type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// Why a reader gets nothing more. None of these is the end of the stream.
///
/// As an [`io::Error`] it is found again by [`ReadFailure::of`].
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReadFailure {
    /// The stream was removed while it was read.
    #[error("the stream was removed")]
    Removed,
    /// The reader did not keep up, and its policy was to be disconnected then.
    #[error("the reader was too slow, and was disconnected")]
    TooSlow,
    /// The last writers are gone, and one of them died instead of finishing, or finished as failed. Adapters that only know
    /// bytes and errors say it so; as an event it is [`End::WriterDied`](pfs_proto::End::WriterDied).
    #[error("a writer died without finishing, or failed")]
    WriterDied,
    /// The stream was closed as failed: what came is not all that there should be. Adapters that only know bytes and errors say
    /// it so; as an event it is [`End::Failed`](pfs_proto::End::Failed).
    #[error("the stream was closed as failed")]
    Failed,
    /// Nothing came for so long, as a stall detector (feature `tokio`) was asked to tell. The one failure after
    /// which reading goes on.
    #[error("nothing came for {after:?}")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
    /// The daemon that held the stream has gone away.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Anything else; the cause says what.
    #[error("the stream can't be read on")]
    Other(#[source] Cause),
}

/// Why a chunk was not appended.
///
/// As an [`io::Error`] it is found again by [`WriteFailure::of`].
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum WriteFailure {
    /// The chunk is larger than the stream takes. Nothing of it is in the stream, and the writer can go on.
    #[error("a chunk of {size} bytes is larger than the {max} bytes that the stream takes at once")]
    TooLarge {
        /// Bytes of the chunk.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The stream takes no more appends.
    #[error("the stream is closed")]
    Closed,
    /// The stream is gone.
    #[error("the stream was removed")]
    Removed,
    /// The daemon that held the stream has gone away. What was not flushed may be in the stream or not.
    #[error("the daemon went away")]
    DaemonGone(#[source] Cause),
    /// Anything else; the cause says what.
    #[error("the stream can't be written on")]
    Other(#[source] Cause),
}

/// A gap, where there are only bytes and errors: these will never come, and what follows goes on after them.
///
/// ```
/// # use pfs_stream::LostData;
/// # let error = std::io::Error::from(LostData::new(100, 164, 2));
/// if let Some(lost) = LostData::of(&error) {
///     assert_eq!((lost.bytes(), lost.chunks), (64, 2));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} bytes are lost, offsets {from} to {to}: the reader was too slow", self.bytes())]
#[non_exhaustive]
pub struct LostData {
    /// First lost offset.
    pub from: u64,
    /// Offset after the last lost one.
    pub to: u64,
    /// How many chunks were lost; 0 where that is not known.
    pub chunks: u64,
}

impl LostData {
    /// This gap.
    pub fn new(from: u64, to: u64, chunks: u64) -> Self {
        Self { from, to, chunks }
    }

    /// How many bytes are lost.
    pub fn bytes(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// The gap that this error stands for, if it does.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl ReadFailure {
    /// Whether nothing follows it but itself. So it is with all but [`Stalled`](Self::Stalled).
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Stalled { .. })
    }

    /// The failure that this error stands for, if it does.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl WriteFailure {
    /// The failure that this error stands for, if it does.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<LostData> for io::Error {
    fn from(lost: LostData) -> Self {
        Self::other(lost)
    }
}

impl From<ReadFailure> for io::Error {
    fn from(failure: ReadFailure) -> Self {
        let kind = match failure {
            ReadFailure::Removed => io::ErrorKind::NotFound,
            ReadFailure::TooSlow => io::ErrorKind::ConnectionAborted,
            ReadFailure::WriterDied | ReadFailure::Failed => io::ErrorKind::UnexpectedEof,
            ReadFailure::Stalled { .. } => io::ErrorKind::TimedOut,
            ReadFailure::DaemonGone(_) => io::ErrorKind::ConnectionReset,
            ReadFailure::Other(_) => io::ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}

impl From<WriteFailure> for io::Error {
    fn from(failure: WriteFailure) -> Self {
        let kind = match failure {
            WriteFailure::TooLarge { .. } => io::ErrorKind::InvalidInput,
            WriteFailure::Closed => io::ErrorKind::BrokenPipe,
            WriteFailure::Removed => io::ErrorKind::NotFound,
            WriteFailure::DaemonGone(_) => io::ErrorKind::ConnectionReset,
            WriteFailure::Other(_) => io::ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Removed => Self::Removed,
            ReadError::TooSlow { .. } => Self::TooSlow,
        }
    }
}

impl From<AppendError> for WriteFailure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Closed => Self::Closed,
            AppendError::Removed => Self::Removed,
            AppendError::TooLarge { size, max } => Self::TooLarge { size, max },
            // Only several chunks at once can be too many.
            AppendError::TooMany { .. } => Self::Other(Arc::new(error)),
        }
    }
}
