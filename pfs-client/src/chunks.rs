//! Batches of chunks.

use bytes::Bytes;
use pfs_stream::Sink;

/// The size of one copy, in bytes.
const COPY_BYTES: usize = 2 * 1024;

/// Chunks of at least this many bytes are returned on their own, because copying them into a batch
/// would cost more than the batch saves.
pub(crate) const LARGE_CHUNK_BYTES: usize = 16 * 1024;

/// A batch of chunks that arrived together: their bytes, one after the other, and the end of each.
///
/// Clearing a batch keeps its memory. Reuse one batch for the whole stream.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// A single large chunk, in the buffer in which it arrived. `bytes` is empty then.
    alone: Option<Bytes>,
}

impl Chunks {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of all chunks.
    pub fn bytes(&self) -> &[u8] {
        self.alone.as_deref().unwrap_or(&self.bytes)
    }

    /// The number of chunks.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if the batch has no chunks.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The chunks, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (mut rest, mut start) = (self.bytes(), 0);
        self.ends.iter().map(move |&end| {
            let (chunk, after) = rest.split_at_checked(end.wrapping_sub(start)).unwrap_or_default();
            (rest, start) = (after, end);
            chunk
        })
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.alone = None;
    }

    /// Stores one chunk without a copy. The batch must be empty, and takes no more chunks.
    pub(crate) fn hold(&mut self, chunk: Bytes) {
        self.ends.push(chunk.len());
        self.alone = Some(chunk);
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        // Copy in pieces: on some processors, the C library copies long runs ten times slower if
        // source and destination have similar offsets within their pages.
        self.bytes.reserve(chunk.len());
        chunk.chunks(COPY_BYTES).for_each(|piece| self.bytes.extend_from_slice(piece));
        self.ends.push(self.bytes.len());
    }

    /// Takes the bytes as shared memory, and the lengths of the chunks.
    pub(crate) fn take(&mut self) -> (Bytes, impl Iterator<Item = usize> + use<>) {
        let mut start = 0;
        let lengths = std::mem::take(&mut self.ends).into_iter().map(move |end| {
            let length = end.saturating_sub(start);
            start = end;
            length
        });
        let bytes = self.alone.take().unwrap_or_else(|| std::mem::take(&mut self.bytes).into());
        (bytes, lengths)
    }
}

impl Sink for Chunks {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn joins(&self) -> bool {
        true
    }

    fn chunks(&mut self, ends: &[usize]) {
        let start = self.bytes.len();
        // Wrapping, because this loop is hot and no offset in a buffer comes near `usize::MAX`.
        self.ends.extend(ends.iter().map(|end| start.wrapping_add(*end)));
    }

    fn undo_to(&mut self, len: usize) {
        self.bytes.truncate(len);
        let kept = self.ends.partition_point(|end| *end <= len);
        self.ends.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_as_they_went_in_except_undone_ones() {
        let mut chunks = Chunks::new();
        chunks.push(b"one");
        Sink::chunks(&mut chunks, &[3]);
        chunks.buffer().extend_from_slice(b"two");
        let mark = chunks.buffer().len();
        Sink::chunks(&mut chunks, &[4, 5]);
        chunks.buffer().extend_from_slice(b"torn!");
        chunks.undo_to(mark);
        assert_eq!(chunks.iter().collect::<Vec<_>>(), [b"one", b"two"]);
        assert_eq!((chunks.len(), chunks.bytes()), (2, &b"onetwo"[..]));
        let (bytes, lengths) = chunks.take();
        assert_eq!((&bytes[..], lengths.collect::<Vec<_>>()), (&b"onetwo"[..], vec![3, 3]));
        assert!(chunks.is_empty());
    }

    #[test]
    fn a_large_chunk_on_its_own_is_not_copied() {
        let mut chunks = Chunks::new();
        let large = Bytes::from(vec![7; LARGE_CHUNK_BYTES]);
        chunks.hold(large.clone());
        assert_eq!(
            (chunks.len(), chunks.iter().count(), chunks.bytes().as_ptr()),
            (1, 1, large.as_ptr())
        );
        chunks.clear();
        chunks.push(b"next");
        assert_eq!(chunks.iter().collect::<Vec<_>>(), [b"next"]);
    }
}
