//! What a reader lost, where there are only bytes and errors.

use std::io;

use thiserror::Error;

/// A gap, where there are only bytes and errors: these will never come, and what follows goes on
/// after them.
///
/// ```
/// # use pfs_stream::LostData;
/// # let error = std::io::Error::from(LostData::new(100, 164, 2));
/// if let Some(lost) = LostData::from_io_error(&error) {
///     assert_eq!((lost.bytes(), lost.chunks), (64, 2));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{} bytes are lost, offsets {from} to {to}", self.bytes())]
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
    pub fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<LostData> for io::Error {
    fn from(lost: LostData) -> Self {
        Self::other(lost)
    }
}
