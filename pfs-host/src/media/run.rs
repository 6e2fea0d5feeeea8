//! Run: bytes from a scan, and the positions where chunks begin.

use pfs_stream::{Scan, Sink};

/// Bytes that were scanned, with the starts of chunks.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) bytes: Vec<u8>,
    /// Positions in `bytes` where chunks begin, in order.
    pub(super) starts: Vec<usize>,
    /// Whether the next byte is inside a chunk.
    is_inside: bool,
}

impl Run {
    /// Prepares for the next read of `scan`.
    pub(super) fn clear(&mut self, scan: &Scan) {
        self.bytes.clear();
        self.starts.clear();
        self.is_inside = !scan.is_at_chunk();
    }

    fn begin(&mut self) {
        if !self.is_inside {
            self.starts.push(self.bytes.len());
        }
    }
}

impl Sink for Run {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn joins(&self) -> bool {
        true
    }

    fn chunks(&mut self, ends: &[usize]) {
        self.begin();
        let base = self.bytes.len();
        let others = ends.split_last().map_or(&[][..], |(_, others)| others);
        self.starts.extend(others.iter().map(|end| base.saturating_add(*end)));
        self.is_inside = false;
    }

    fn piece(&mut self, _len: usize, last: bool) {
        self.begin();
        self.is_inside = !last;
    }

    fn undo_to(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.starts.retain(|start| *start < len);
    }
}
