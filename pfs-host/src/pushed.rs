//! Results of appending over shared memory, on systems with and without it.

use crate::failure::Failure;

/// What was appended, and what is to be done next.
#[derive(Debug)]
pub(crate) struct PushedAll {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
    pub(crate) next: Next,
}

/// What a writer's connection is to do after an append from the staging area.
#[derive(Debug)]
pub(crate) enum Next {
    /// The staging area is empty.
    Nothing,
    /// Enough was appended at once; the staging area may hold more.
    More,
    /// A `block` reader needs the room for the next chunk.
    Wait,
    Failed(Failure),
}

/// What the holder of a lease has appended by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
}
