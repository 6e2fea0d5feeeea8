//! Extent of a stream: its readable range at one moment, without the other stats.

/// The readable range of a stream, and whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the oldest chunk that is still readable.
    pub tail: u64,
    /// Offset after the newest byte.
    pub head: u64,
    /// True if the stream takes no more appends.
    pub closed: bool,
    /// True if the stream was closed as failed: its data is incomplete.
    pub failed: bool,
    /// True if the stream was removed.
    pub removed: bool,
}

impl Extent {
    /// Returns true if head is the complete end of the stream: the stream is closed and not failed.
    pub fn is_complete(&self) -> bool {
        self.closed && !self.failed
    }
}
