//! Error type for a gap, for adapters that know only bytes and errors.

use std::io;

use thiserror::Error;

/// A gap as an error: these bytes are lost, and reading continues after them.
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
    /// Offset after the last lost byte.
    pub to: u64,
    /// Number of lost chunks; 0 if unknown.
    pub chunks: u64,
}

impl LostData {
    /// Creates the error for a gap.
    pub fn new(from: u64, to: u64, chunks: u64) -> Self {
        Self { from, to, chunks }
    }

    /// Number of lost bytes.
    pub fn bytes(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// Recovers the gap inside an [`io::Error`], if there is one.
    pub fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<LostData> for io::Error {
    fn from(lost: LostData) -> Self {
        Self::other(lost)
    }
}
