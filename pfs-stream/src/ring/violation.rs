//! How the words of a ring contradict each other.

use thiserror::Error;

/// What no writer of a ring does, found by one of its readers: who may write the ring has spoiled
/// it. Nothing that was read before is wrong for that reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Head is behind tail, behind what was read already, or where no stream ever comes.
    #[error("its head is impossible")]
    Head,
    /// Tail went back.
    #[error("its tail went back")]
    Tail,
    /// There are more chunks than the ring's index has entries for.
    #[error("it claims more chunks than it has room for")]
    Chunks,
    /// The offset where a chunk starts contradicts the others.
    #[error("the offset of a chunk in it is impossible")]
    Offset,
}
