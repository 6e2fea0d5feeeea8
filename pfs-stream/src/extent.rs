//! What a stream holds at one moment, without the rest of its stats.

/// From where to where a stream can be read, and whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the oldest chunk that is still readable.
    pub tail: u64,
    /// Offset after the newest byte.
    pub head: u64,
    /// Whether it takes no more appends.
    pub closed: bool,
    /// Whether it was closed as failed: what it holds is not all that there should be.
    pub failed: bool,
    /// Whether it is gone.
    pub removed: bool,
}

impl Extent {
    /// Whether head is the end of the stream as it should be: it is closed, and not as failed.
    pub fn is_complete(&self) -> bool {
        self.closed && !self.failed
    }
}
