//! Header and sync points that a writer names itself.

use std::collections::VecDeque;

use pfs_media::MAX_HEADER_BYTES;
use pfs_stream::Stream;

use super::Index;

/// Maximum number of marked chunks that are not in the stream yet. A client marks a chunk right
/// before it appends the chunk; only the holder of a lease may be ahead by several.
const MAX_PENDING: usize = 1024;

/// What a writer says about its contents.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The header so far, the number of bytes that are missing, and where the header begins.
    header: Vec<u8>,
    missing: usize,
    begin: u64,
    /// Marked chunks that are not in the stream yet, oldest first, as numbers of the writer's
    /// chunks.
    pending: VecDeque<u64>,
    /// The number of the first chunk under the last lease, and its sequence number in the stream.
    leased: Option<(u64, u64)>,
}

/// A writer's header is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderTooLarge;

impl Marks {
    /// Creates the state of a writer that begins with a header of this many bytes.
    ///
    /// # Errors
    ///
    /// The header is larger than [`MAX_HEADER_BYTES`].
    pub(crate) fn new(header_bytes: u32) -> Result<Self, HeaderTooLarge> {
        let missing = usize::try_from(header_bytes).ok();
        let missing = missing.filter(|missing| *missing <= MAX_HEADER_BYTES);
        Ok(Self { missing: missing.ok_or(HeaderTooLarge)?, ..Self::default() })
    }

    /// Whether a part of the header is still to come.
    pub(crate) fn misses_header(&self) -> bool {
        self.missing > 0
    }

    /// Bytes of the header that the writer has appended so far.
    pub(crate) fn held(&self) -> usize {
        self.header.len()
    }

    /// Notes that the writer has appended its chunk `number`, which ends at offset `end`, through
    /// its connection.
    #[inline]
    pub(crate) fn appended(
        &mut self,
        stream: impl FnOnce() -> Stream,
        number: u64,
        chunk: &[u8],
        end: u64,
    ) {
        if self.missing > 0 || !self.pending.is_empty() {
            self.note(&stream(), number, chunk, end);
        }
    }

    fn note(&mut self, stream: &Stream, number: u64, chunk: &[u8], end: u64) {
        let begin = end.saturating_sub(chunk.len() as u64);
        if self.missing > 0 {
            if self.header.is_empty() {
                self.begin = begin;
                Index::begin_header(stream, begin);
            }
            let part = chunk.get(..self.missing).unwrap_or(chunk);
            self.header.extend_from_slice(part);
            self.missing -= part.len();
            if self.missing == 0 {
                let header = std::mem::take(&mut self.header);
                let end = begin.saturating_add(part.len() as u64);
                Index::end_header(stream, header.into(), self.begin, end);
            }
        }
        while let Some(marked) = self.pending.front().filter(|marked| **marked <= number) {
            if *marked == number {
                Index::mark(stream, begin);
            }
            self.pending.pop_front();
        }
    }

    /// The writer leaves: resolves what it has marked, and forgets a header that is not complete.
    pub(crate) fn leave(&mut self, stream: &Stream, appended: u64) {
        self.resolve(stream, appended);
        if self.missing > 0 && !self.header.is_empty() {
            Index::cancel_header(stream, self.begin);
        }
    }

    /// Number of marked chunks that are not in the stream yet.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Notes that a lease has begun: the writer's chunk `number` is chunk `seq` of the stream.
    pub(crate) fn lease_begins(&mut self, number: u64, seq: u64) {
        self.leased = Some((number, seq));
    }

    /// Marks the writer's chunk `number` as a sync point. [Resolve](Self::resolve) the mark then.
    pub(crate) fn mark(&mut self, number: u64) {
        if self.pending.len() < MAX_PENDING && self.pending.back().is_none_or(|last| *last < number)
        {
            self.pending.push_back(number);
        }
    }

    /// Whether marked chunks are not in the stream yet.
    pub(crate) fn are_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Finds the marked chunks that the writer has appended under a lease. `appended` is the number
    /// of chunks that the writer has appended so far.
    pub(crate) fn resolve(&mut self, stream: &Stream, appended: u64) {
        while let Some(marked) = self.pending.front().filter(|marked| **marked < appended) {
            let seq =
                self.leased.and_then(|(number, seq)| seq.checked_add(marked.checked_sub(number)?));
            if let Some(point) = seq.and_then(|seq| stream.start_of(seq)) {
                Index::mark(stream, point);
            }
            self.pending.pop_front();
        }
    }
}
