//! Events of a reader and events of a stream.

use std::ops::Range;

use bytes::Bytes;

use crate::{End, Peer};

/// An event of a reader: a chunk, a gap, or a change of its state.
///
/// A reader of a stream in this process yields chunks, gaps and the end. A reader of a daemon's
/// stream first yields [`Attached`](Self::Attached), preceded by [`Waiting`](Self::Waiting) if it
/// has to wait. Match in a loop that ends with [`End`](Self::End): a `while let Event::Chunk(..)`
/// loop stops at any other event between two chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The stream does not exist yet; the reader will be attached when it is created.
    Waiting,
    /// The reader is attached; chunks and gaps follow.
    Attached {
        /// The offset of the first byte or gap that follows.
        start: u64,
        /// The head of the stream when the reader attached.
        head: u64,
        /// Media type of the contents, if the stream has one.
        content_type: Option<String>,
    },
    /// The reader has joined in the middle of the stream ([`Join`](crate::Join)), or another header
    /// was lost in the gap before. The header comes before the bytes that follow.
    Joined {
        /// Bytes that a decoder needs before the bytes that follow, and that are not counted in any
        /// offset. Empty if a decoder needs none.
        header: Bytes,
        /// The offsets that the reader skipped, because a decoder cannot start there. They are not
        /// a gap. Empty if the reader starts at or before the place that it asked for, and after a
        /// gap.
        skipped: Range<u64>,
    },
    /// A writer has started over with another header, in the middle of the stream. The header
    /// before does not apply to the bytes that follow. Only for readers that
    /// [join](crate::Join::Auto), and only if the format changes or its decoders accept no second
    /// header.
    FormatChanged {
        /// The offset where the new header begins.
        offset: u64,
    },
    /// One whole chunk, the bytes of one append; the rest of a chunk if reading starts inside it.
    Chunk(Bytes),
    /// The connection broke, and reading resumes over another one at the same offset. Nothing is
    /// lost unless a gap follows. Only over HTTP.
    Resumed {
        /// The offset of the first byte or gap that follows.
        offset: u64,
    },
    /// A gap: a range of offsets that this reader will never get.
    Gap {
        /// The first lost offset.
        from: u64,
        /// The offset after the last lost byte.
        to: u64,
        /// The number of lost chunks; 0 if unknown.
        chunks: u64,
    },
    /// The end of the stream; nothing follows.
    End {
        /// Why the reader's stream ended.
        reason: End,
        /// The offset after the last byte or gap.
        offset: u64,
    },
}

/// An event of a stream, reported to its watchers. Readers are numbered from 1 in the order in
/// which they attached to the stream; a number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// A reader attached.
    Subscribed {
        /// The number of the reader.
        reader: u64,
        /// The process of the reader.
        peer: Peer,
        /// Readers attached now, including this one.
        readers: u32,
    },
    /// The number of readers rose from 0 to 1; follows that reader's
    /// [`Subscribed`](Self::Subscribed).
    FirstReader,
    /// A reader left, for any reason.
    Unsubscribed {
        /// The number of the reader.
        reader: u64,
        /// The process of the reader.
        peer: Peer,
        /// Readers attached now.
        readers: u32,
        /// Total of lost bytes that the reader was told about.
        lost_bytes: u64,
        /// Total of lost chunks that the reader was told about.
        lost_chunks: u64,
    },
    /// The last reader left; follows its [`Unsubscribed`](Self::Unsubscribed).
    NoReaders,
    /// A reader was told about a gap. Shm readers report only their totals, in
    /// [`Unsubscribed`](Self::Unsubscribed).
    Gap {
        /// The number of the reader.
        reader: u64,
        /// The first lost offset.
        from: u64,
        /// The offset after the last lost byte.
        to: u64,
        /// The number of lost chunks; 0 if unknown.
        chunks: u64,
    },
    /// The stream was closed and accepts no more appends.
    Closed {
        /// The final head.
        offset: u64,
        /// Whether the stream was closed as failed: the data is incomplete.
        failed: bool,
    },
    /// The stream was removed; nothing follows.
    Removed,
    /// Events were dropped because this watcher was behind. The stream's stats are still correct.
    Missed {
        /// The number of dropped events, at least 1.
        count: u64,
    },
}
