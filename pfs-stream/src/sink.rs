//! Sink: the destination of bytes that a reader copies out of the ring buffer.

use std::collections::VecDeque;

use bytes::Bytes;

/// Receives the bytes of chunks in one copy, with room for a header before each run of bytes.
/// Programs use `Vec<u8>`; hosts implement their own sinks.
///
/// A read is all or nothing: if the writer laps the reader during the copy,
/// [`undo_to`](Sink::undo_to) discards everything since the start of the read. A read consists of
/// whole chunks, unless the sink [takes parts](Sink::takes_parts).
pub trait Sink {
    /// The buffer that bytes are appended to.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Maximum length of one run of bytes; a longer chunk comes in pieces.
    fn max_piece(&self) -> usize {
        usize::MAX
    }

    /// Called before `len` bytes are appended. `last` says that these bytes end their chunk.
    fn piece(&mut self, len: usize, last: bool) {
        let _ = (len, last);
    }

    /// Bytes that the sink adds to each chunk. They count towards the size of a read, so that a
    /// read of tiny chunks takes no more memory than a read of large ones.
    fn header_len(&self) -> usize {
        0
    }

    /// Returns true if a chunk larger than the size of a read is to be read in parts, one part per
    /// read. Otherwise the chunk is read whole.
    ///
    /// If the rest of such a chunk is overwritten, the [`Gap`](crate::Read::Gap) begins where the
    /// first part began. A chunk that the stream holds by reference is never read in parts.
    fn takes_parts(&self) -> bool {
        false
    }

    /// Called instead of [`piece`](Self::piece) before a part of `len` bytes; `left` bytes of the
    /// chunk are still to be read. The last part of a chunk is a piece.
    fn part(&mut self, len: usize, left: u64) {
        self.piece(len, left == 0);
    }

    /// Returns true if [`appended_at`](Self::appended_at) is to be called. A sink that
    /// [joins](Self::joins) chunks is not told.
    fn notes_times(&self) -> bool {
        false
    }

    /// Called before the first bytes of a chunk, with the time when the chunk was appended, in
    /// microseconds since the Unix epoch.
    fn appended_at(&mut self, micros: u64) {
        let _ = micros;
    }

    /// Returns true if chunks may follow each other with nothing between them.
    /// [`chunks`](Self::chunks) is then called instead of [`piece`](Self::piece), which is cheaper
    /// for small chunks.
    fn joins(&self) -> bool {
        false
    }

    /// Called before several whole chunks are appended at once. `ends` holds the end of each chunk,
    /// counted from the present end of the buffer.
    fn chunks(&mut self, ends: &[usize]) {
        let _ = ends;
    }

    /// The queue that receives whole chunks which the stream holds by reference. If `None`, each
    /// such chunk is passed to [`hold`](Self::hold).
    fn queue(&mut self) -> Option<&mut VecDeque<Bytes>> {
        None
    }

    /// Receives a whole chunk that the stream holds by reference, instead of [`piece`](Self::piece)
    /// and the bytes.
    fn hold(&mut self, chunk: Bytes) {
        let most = self.max_piece().max(1);
        let mut left = chunk.len();
        for piece in chunk.chunks(most) {
            left = left.saturating_sub(piece.len());
            self.piece(piece.len(), left == 0);
            self.buffer().extend_from_slice(piece);
        }
    }

    /// Discards everything that was added after the buffer had this length.
    fn undo_to(&mut self, len: usize) {
        self.buffer().truncate(len);
    }
}

/// Collects the bytes alone, chunk after chunk.
impl Sink for Vec<u8> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        self
    }

    fn joins(&self) -> bool {
        true
    }
}
