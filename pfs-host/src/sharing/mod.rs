//! Sharing memory with clients on the same machine.

mod mapped;
mod stage;

pub(crate) use pfs_stream::mapped::Handout;

pub(crate) use mapped::{attend, hand_out};
pub(crate) use stage::{Chunk, Stage};

/// Whether this system can do it.
pub(crate) const POSSIBLE: bool = true;
