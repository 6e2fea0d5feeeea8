//! Contradictions between the words of a ring.

use thiserror::Error;

/// A contradiction that a reader found in the words of a ring. No writer of a ring causes one, so a
/// process that may write the ring has corrupted it. Everything that was read before stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Head is behind tail, behind what was read already, or beyond what any stream reaches.
    #[error("the head offset is impossible")]
    Head,
    /// Tail went back.
    #[error("the tail offset went back")]
    Tail,
    /// The ring claims more chunks than its index has entries for.
    #[error("the ring claims more chunks than its index can hold")]
    Chunks,
    /// The start offset of a chunk contradicts other offsets.
    #[error("the offset of a chunk is impossible")]
    Offset,
}
