//! What happens to a reader, and what happens to a stream, as values.

use bytes::Bytes;

use crate::{End, Peer};

/// What happens to a reader.
///
/// A reader of a stream in this process yields chunks, gaps and the end. A reader of a daemon's
/// stream yields [`Attached`](Self::Attached) before the first of them, and
/// [`Waiting`](Self::Waiting) before that if it has to wait. So match in a loop that ends with
/// [`End`](Self::End): a `while let Event::Chunk(..)` ends at whatever comes between two chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The stream does not exist yet; the reader will be attached when it is created.
    Waiting,
    /// It is attached; chunks and gaps follow.
    Attached {
        /// The offset of the first byte or gap that follows.
        start: u64,
        /// Head at that moment.
        head: u64,
        /// Media type of the contents, if the stream was given one.
        content_type: Option<String>,
    },
    /// One chunk, whole: what one append appended. (When reading starts inside a chunk: the rest of
    /// that one.)
    Chunk(Bytes),
    /// The connection broke, and reading goes on over another one, where it was: nothing is lost by
    /// that unless a gap follows that says so. Only over HTTP.
    Resumed {
        /// The offset of the first byte or gap that follows.
        offset: u64,
    },
    /// A range of offsets that this reader will never get.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost; 0 where that is not known.
        chunks: u64,
    },
    /// Nothing more follows.
    End {
        /// Why.
        reason: End,
        /// Offset after the last byte or gap.
        offset: u64,
    },
}

/// What happens to a stream, for whoever watches it. Readers have numbers, counted from 1 in the
/// order in which they attached to this stream, and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// A reader has attached.
    Subscribed {
        /// Its number.
        reader: u64,
        /// Who it is.
        peer: Peer,
        /// Readers attached now, this one among them.
        readers: u32,
    },
    /// There was no reader and now there is one; follows its [`Subscribed`](Self::Subscribed).
    FirstReader,
    /// A reader has gone, however that came about.
    Unsubscribed {
        /// Its number.
        reader: u64,
        /// Who it was.
        peer: Peer,
        /// Readers attached now.
        readers: u32,
        /// Bytes that it was told it lost, in all.
        lost_bytes: u64,
        /// Chunks that it was told it lost, in all.
        lost_chunks: u64,
    },
    /// The last reader has gone; follows its [`Unsubscribed`](Self::Unsubscribed).
    NoReaders,
    /// A reader was told that it lost something. Readers in other processes, which read shared
    /// memory for themselves, tell only the sum, in [`Unsubscribed`](Self::Unsubscribed).
    Gap {
        /// The reader's number.
        reader: u64,
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost; 0 where that is not known.
        chunks: u64,
    },
    /// The stream takes no more appends.
    Closed {
        /// Head, which is final.
        offset: u64,
        /// Whether it was closed as failed: what it holds is not all that there should be.
        failed: bool,
    },
    /// The stream is gone; nothing follows.
    Removed,
    /// So many events were not kept for this watcher, because it was behind. What it finds in the
    /// stream's stats is true, whatever it missed.
    Missed {
        /// How many, at least one.
        count: u64,
    },
}
