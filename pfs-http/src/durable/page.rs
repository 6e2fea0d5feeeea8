//! A part of a stream, of bounded size, as one response.

use pfs_host::{Batch, Edge, Page, wide};
use pfs_stream::{Sink, Stream};

use super::{json, media_type::Kind};

/// About how many bytes one response has; only a message is never cut. A page is kept until its
/// client has taken it, so it is not larger than what is kept for any other reader.
pub(super) const PAGE: usize = 64 * 1024;

/// Chunks, one after the other.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pub(super) bytes: Vec<u8>,
    /// Where each of them ends, if that is wanted.
    ends: Option<Vec<usize>>,
}

impl Chunks {
    /// With a mark at the end of each.
    pub(super) fn marked() -> Self {
        Self { bytes: Vec::new(), ends: Some(Vec::new()) }
    }

    /// All of these bytes as one, if there are any.
    pub(super) fn one(bytes: Vec<u8>) -> Self {
        let ends = if bytes.is_empty() { Vec::new() } else { vec![bytes.len()] };
        Self { bytes, ends: Some(ends) }
    }

    /// As this kind of stream needs them.
    pub(super) fn new(kind: Kind) -> Self {
        if kind == Kind::Json { Self::marked() } else { Self::default() }
    }

    /// Ends a chunk.
    pub(super) fn mark(&mut self) {
        let end = self.bytes.len();
        self.ends.iter_mut().for_each(|ends| ends.push(end));
    }

    /// How many are marked.
    pub(super) fn count(&self) -> usize {
        self.ends.as_ref().map_or(0, Vec::len)
    }

    /// As a batch to append.
    pub(super) fn into_batch(self, close: bool) -> Batch {
        Batch { bytes: self.bytes, ends: self.ends.unwrap_or_default(), close }
    }

    /// Those that are marked.
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

    /// Only messages must be whole.
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

/// The part of a stream that a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its first offset.
    pub(super) start: u64,
    /// The offset after its last.
    pub(super) next: u64,
    /// Whether there was no more when it was made.
    pub(super) up_to_date: bool,
    /// Whether there will never be more.
    pub(super) closed: bool,
}

/// Ends a page: the part that it is, and its contents as they are shown.
pub(super) fn finish(
    page: Page<Chunks>,
    edge: Edge,
    stream: &Stream,
    kind: Kind,
) -> (Span, Vec<u8>) {
    let (start, chunks) = page.finish();
    let next = start.saturating_add(wide(chunks.bytes.len()));
    let (up_to_date, closed) = match edge {
        // The next read is told that the stream failed.
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
