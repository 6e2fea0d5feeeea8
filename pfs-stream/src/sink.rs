//! Where a reader puts what it copies out of the ring.

use std::collections::VecDeque;

use bytes::Bytes;

/// Takes the bytes of chunks, one copy, with room for a header before each run of bytes. Programs
/// have `Vec<u8>`; hosts have others.
///
/// A read is all or nothing: when the writer has lapped the reader meanwhile, everything since the
/// start of the read is taken back through [`undo_to`](Sink::undo_to). A read is whole chunks,
/// unless the sink [takes parts](Sink::takes_parts).
pub trait Sink {
    /// The buffer that bytes are appended to.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// The longest run of bytes that may be appended at once; a longer chunk comes in pieces.
    fn max_piece(&self) -> usize {
        usize::MAX
    }

    /// Called before `len` bytes are appended; `last` says that they end their chunk.
    fn piece(&mut self, len: usize, last: bool) {
        let _ = (len, last);
    }

    /// Bytes that the sink adds to each chunk. They count towards the size of a read, so that a
    /// read of tiny chunks fills no more memory than a read of large ones.
    fn header_len(&self) -> usize {
        0
    }

    /// Whether a chunk that is larger than the size of a read is read in parts, one part a read.
    /// Otherwise it is read whole.
    ///
    /// If the rest of such a chunk is overwritten, the [`Gap`](crate::Read::Gap) begins where the
    /// first part began. A chunk that the stream holds by reference is never read in parts.
    fn takes_parts(&self) -> bool {
        false
    }

    /// Called in place of [`piece`](Self::piece) before a part of `len` bytes; `left` bytes of the
    /// chunk are still to be read. The last part of a chunk is a piece.
    fn part(&mut self, len: usize, left: u64) {
        self.piece(len, left == 0);
    }

    /// Whether chunks may follow each other with nothing between them. Then
    /// [`chunks`](Self::chunks) is called instead of [`piece`](Self::piece), which is cheaper
    /// for small ones.
    fn joins(&self) -> bool {
        false
    }

    /// Called before several whole chunks are appended at once: where each ends, counted from the
    /// buffer's present end.
    fn chunks(&mut self, ends: &[usize]) {
        let _ = ends;
    }

    /// Where whole chunks that the stream holds by reference are added as they are, if there is
    /// such a place. Without one, each is given to [`hold`](Self::hold).
    fn queue(&mut self) -> Option<&mut VecDeque<Bytes>> {
        None
    }

    /// Takes a whole chunk that the stream holds by reference, in place of [`piece`](Self::piece)
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

    /// Takes back everything that came after the buffer had this length.
    fn undo_to(&mut self, len: usize) {
        self.buffer().truncate(len);
    }
}

/// Only the bytes, one chunk after the other.
impl Sink for Vec<u8> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        self
    }

    fn joins(&self) -> bool {
        true
    }
}
