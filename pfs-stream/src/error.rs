//! What can go wrong, an enum per operation.

use std::io;

use thiserror::Error;

/// Why a stream was not made.
#[derive(Debug, Error)]
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
    OutOfMemory(#[from] io::Error),
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

/// Why a chunk was not appended. Nothing of it is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream takes no more appends.
    #[error("the stream is closed")]
    Closed,
    /// The stream is gone.
    #[error("the stream was removed")]
    Removed,
    /// The chunk is larger than the stream takes.
    #[error("a chunk of {size} bytes is larger than the {max} bytes that the stream takes at once")]
    TooLarge {
        /// Bytes of the chunk.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// There are more chunks than the stream takes together.
    #[error("{count} chunks are more than the {max} that the stream takes at once")]
    TooMany {
        /// Chunks.
        count: u64,
        /// Chunks allowed.
        max: u64,
    },
}

/// Why a reader gets nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream was removed while it was read; this is not its end.
    #[error("the stream was removed")]
    Removed,
    /// A [`SlowPolicy::Disconnect`](pfs_proto::SlowPolicy) reader did not keep up.
    #[error("the reader at {position} was too slow: it was {lag} bytes behind")]
    TooSlow {
        /// Where the reader was.
        position: u64,
        /// How far behind head.
        lag: u64,
    },
}
