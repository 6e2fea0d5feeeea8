//! What a stream holds at one moment, without the rest of its figures.

use std::time::SystemTime;

use crate::{Stream, sync::lock};

/// From where to where a stream can be read, and whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the oldest chunk that is still readable.
    pub tail: u64,
    /// Offset after the newest byte.
    pub head: u64,
    /// Whether it takes no more appends.
    pub closed: bool,
    /// Whether it is gone.
    pub removed: bool,
}

impl Stream {
    /// What it holds now.
    pub fn extent(&self) -> Extent {
        let append = lock(&self.shared.append);
        Extent {
            tail: append.ring.tail().offset,
            head: append.ring.head().offset,
            closed: append.status.closed(),
            removed: append.status.removed(),
        }
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        self.shared.created
    }
}
