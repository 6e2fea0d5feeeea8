//! Zero-copy sending of large chunks.

use std::future::poll_fn;

use pfs_proto::{DataKind, MAX_PAYLOAD, put_data_header};
use pfs_stream::WriteError;

use super::{Progress, Writer};

impl Writer {
    /// Appends a chunk without a copy. Returns when all of the chunk is sent.
    pub(super) async fn append_in_place(&mut self, chunk: &[u8]) -> Result<(), WriteError> {
        self.appended = self.appended.saturating_add(1);
        let mut unsent = Unsent { writer: self, piece: &[], rest: chunk };
        while unsent.next_piece() {
            poll_fn(|cx| unsent.writer.poll_send(cx, &mut unsent.piece)).await?;
        }
        Ok(())
    }

    /// Queues a chunk of any size. The chunk is already counted in `appended`.
    pub(super) fn queue_chunk(&mut self, chunk: &[u8]) {
        Unsent { writer: self, piece: &[], rest: chunk }.queue();
    }
}

/// A large chunk that is being sent from the caller's memory. If the future is dropped in the
/// middle, the frame that has begun must still be completed, so dropping this value copies the rest
/// of the chunk to the queue.
struct Unsent<'a> {
    writer: &'a mut Writer,
    /// The rest of the frame whose header is queued or sent.
    piece: &'a [u8],
    /// The part without a frame header.
    rest: &'a [u8],
}

impl Unsent<'_> {
    /// Starts the next frame. Returns false if nothing is left.
    fn next_piece(&mut self) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let (piece, rest) = self.rest.split_at_checked(MAX_PAYLOAD).unwrap_or((self.rest, &[]));
        let kind = if rest.is_empty() { DataKind::Append } else { DataKind::AppendPart };
        put_data_header(&mut self.writer.queue, kind, piece.len());
        (self.piece, self.rest) = (piece, rest);
        true
    }

    /// Queues everything that is left.
    fn queue(&mut self) {
        self.writer.queue.extend_from_slice(self.piece);
        while self.next_piece() {
            self.writer.queue.extend_from_slice(self.piece);
        }
        self.piece = &[];
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if !matches!(self.writer.progress, Progress::Failed(_)) {
            self.queue();
        }
    }
}
