//! Places in a stream, and what reading there gives.

use pfs_proto::End;

/// A place between two chunks: the chunk that follows and the offset where it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: u64,
    pub(crate) offset: u64,
}

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Whole chunks were added to the sink, or a part of one to a sink that takes parts.
    Data {
        /// How many chunks ended, at least one unless it was a part.
        chunks: usize,
        /// How many bytes, headers that the sink added not counted.
        bytes: usize,
    },
    /// These offsets will never come, because the ring moved past them.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost; 0 where that is not known, because the reader asked for a
        /// place that was gone when it attached.
        chunks: u64,
    },
    /// Nothing more comes.
    End(End),
}

/// How much is read at a time, in bytes: whole chunks, at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Of what is copied.
    pub(crate) copied: usize,
    /// Of what is taken by reference.
    pub(crate) taken: usize,
}

impl From<usize> for Most {
    fn from(bytes: usize) -> Self {
        Self { copied: bytes, taken: bytes }
    }
}
