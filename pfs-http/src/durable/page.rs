//! Pages: bounded parts of a stream, each sent as one response.

use pfs_host::{Batch, Edge, Page, wide};
use pfs_stream::{Sink, Stream};

use super::{json, media_type::Kind};

/// Approximate maximum size of a page, in bytes. Only a JSON message may exceed it, because
/// messages are never cut. A page is held until its client has taken it, so it is not larger than
/// the buffer of any other reader.
pub(super) const PAGE: usize = 64 * 1024;

/// Buffer of consecutive chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pub(super) bytes: Vec<u8>,
    /// End of each chunk, if chunk boundaries are needed.
    ends: Option<Vec<usize>>,
}

impl Chunks {
    /// Creates an empty buffer that records the end of each chunk.
    pub(super) fn marked() -> Self {
        Self { bytes: Vec::new(), ends: Some(Vec::new()) }
    }

    /// Creates a buffer with `bytes` as its only chunk, or without chunks if `bytes` is empty.
    pub(super) fn one(bytes: Vec<u8>) -> Self {
        let ends = if bytes.is_empty() { Vec::new() } else { vec![bytes.len()] };
        Self { bytes, ends: Some(ends) }
    }

    /// Creates an empty buffer for a kind of stream.
    pub(super) fn new(kind: Kind) -> Self {
        if kind == Kind::Json { Self::marked() } else { Self::default() }
    }

    /// Marks the end of a chunk.
    pub(super) fn mark(&mut self) {
        let end = self.bytes.len();
        self.ends.iter_mut().for_each(|ends| ends.push(end));
    }

    /// Number of marked chunks.
    pub(super) fn count(&self) -> usize {
        self.ends.as_ref().map_or(0, Vec::len)
    }

    /// Converts the chunks into a batch to append.
    pub(super) fn into_batch(self, close: bool) -> Batch {
        Batch { bytes: self.bytes, ends: self.ends.unwrap_or_default(), close }
    }

    /// Iterates over the marked chunks.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.as_deref().unwrap_or_default();
        let begins = std::iter::once(0).chain(ends.iter().copied());
        begins.zip(ends).map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }
}

impl Sink for Chunks {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Only JSON messages must be whole.
    fn takes_parts(&self) -> bool {
        self.ends.is_none()
    }

    fn piece(&mut self, len: usize, _last: bool) {
        let end = self.bytes.len().saturating_add(len);
        self.ends.iter_mut().for_each(|ends| ends.push(end));
    }

    fn undo_to(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.ends.iter_mut().for_each(|ends| ends.retain(|end| *end <= len));
    }
}

/// Range of a stream that a page covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of the first byte.
    pub(super) start: u64,
    /// Offset after the last byte.
    pub(super) next: u64,
    /// Whether the page reached head when it was made.
    pub(super) up_to_date: bool,
    /// Whether the stream has ended at `next`.
    pub(super) closed: bool,
}

/// Finishes a page: returns its range, and its contents as the protocol encodes them.
pub(super) fn finish(
    page: Page<Chunks>,
    edge: Edge,
    stream: &Stream,
    kind: Kind,
) -> (Span, Vec<u8>) {
    let (start, chunks) = page.finish();
    let next = start.saturating_add(wide(chunks.bytes.len()));
    let (up_to_date, closed) = match edge {
        // The stream was closed as failed; the next read reports the failure.
        Edge::Head | Edge::Failed => (true, false),
        Edge::Closed => (true, true),
        Edge::Full => {
            let extent = stream.extent();
            (extent.head == next, extent.head == next && extent.is_complete())
        }
    };
    let body = match kind {
        Kind::Json => json::array(chunks.each()).unwrap_or_else(|| b"[]".to_vec()),
        Kind::Text | Kind::Binary => chunks.bytes,
    };
    (Span { start, next, up_to_date, closed }, body)
}
