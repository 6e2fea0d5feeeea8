//! Positions in a stream, and results of a read.

use pfs_proto::End;

/// A position between two chunks: sequence number and start offset of the chunk that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: u64,
    pub(crate) offset: u64,
}

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Whole chunks were added to the sink, or a part of a chunk to a sink that takes parts.
    Data {
        /// Number of chunks completed: at least one, or 0 after a part.
        chunks: usize,
        /// Number of bytes, without headers that the sink added.
        bytes: usize,
    },
    /// These offsets are lost: the ring buffer moved past them.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost byte.
        to: u64,
        /// Number of lost chunks; 0 if unknown, because the reader asked for an offset that was
        /// gone when it attached.
        chunks: u64,
    },
    /// The end: nothing more comes.
    End(End),
}

/// Maximum size of a read, in bytes. A read returns whole chunks, at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Limit for chunks that are copied.
    pub(crate) copied: usize,
    /// Limit for chunks that are taken by reference.
    pub(crate) taken: usize,
}

impl From<usize> for Most {
    fn from(bytes: usize) -> Self {
        Self { copied: bytes, taken: bytes }
    }
}
