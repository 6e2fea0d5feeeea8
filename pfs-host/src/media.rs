//! Media index of a stream: the headers in effect, and the sync points that the ring holds.
//!
//! The daemon makes the index by scans of the stream's ring. While a writer appends its first
//! [`FIRST_BYTES`], a scan follows each append, so that no header is missed. This holds for each
//! writer, because a writer may start over in a stream that others have written. Later, scans run
//! from time to time in a task of their own: a header that comes then is missed only if the writer
//! overwrites the header between two scans. The index is scanned up to head before a reader joins.
//!
//! A leased ring is scanned like any other, as untrusted input. The holder of the lease reports
//! nothing about the contents, so the daemon need not believe the holder.
//!
//! A stream whose first bytes and media type name no format has no index. Text has none either,
//! except CSV, whose first line is a header: lines are found when a reader joins.
//!
//! A writer may also name its header and its sync points itself. The index then holds these, and
//! the contents are not examined.

mod indexed;
mod lines;
mod marks;
mod run;
#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use pfs_media::Format;
use pfs_proto::{Join, Start};
use pfs_stream::{AttachError, Read, Stream, StreamStat, Writer};
use tokio::task::yield_now;

use self::{indexed::Indexed, run::Run};

pub use self::indexed::Joined;
pub(crate) use self::marks::{HeaderTooLarge, Marks};

/// Number of bytes after which a writer's appends are no longer followed by a scan each.
const FIRST_BYTES: u64 = 1024 * 1024;

/// Divisor of the ring size: later, a scan begins when this part of the ring was appended since the
/// last scan began.
const LATER_SHARE: u64 = 8;

/// The media index of a stream: an extension of the stream. Empty until a format is recognised.
#[derive(Debug, Default)]
pub(crate) struct Index {
    indexed: Mutex<Option<Indexed>>,
    /// Whether a task completes the index.
    is_scheduled: AtomicBool,
}

/// How a writer keeps the index of its stream up to date.
#[derive(Debug, Default)]
pub(crate) enum Indexing {
    /// The format is not known yet.
    #[default]
    Undecided,
    /// The stream needs no index: it has no known format, or it is lines of text.
    Off,
    /// This many bytes are still to be scanned with each append.
    First(Arc<Index>, u64),
    /// Bytes that are still to be appended before the next scan.
    Later(Arc<Index>, u64),
}

impl Indexing {
    /// Updates the index after the writer has appended `bytes`, which end at `offset`.
    pub(crate) fn appended(&mut self, stream: impl FnOnce() -> Stream, bytes: u64, offset: u64) {
        match self {
            Self::Off => {}
            Self::Undecided => {
                let stream = stream();
                *self = Self::decide(&stream, offset.saturating_sub(bytes));
                if let Self::First(index, _) = self {
                    index.follow(stream);
                }
            }
            Self::First(index, left) => {
                index.follow(stream());
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    *self = Self::Later(Arc::clone(index), 0);
                }
            }
            Self::Later(index, left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    let stream = stream();
                    *left = capacity(&stream) / LATER_SHARE;
                    index.schedule(stream);
                }
            }
        }
    }

    /// Decides for a writer whose first append began at `start`.
    fn decide(stream: &Stream, start: u64) -> Self {
        if let Some(index) = Index::of(stream) {
            let is_by_hand = index.lock().as_ref().is_some_and(|indexed| indexed.format.is_none());
            return if is_by_hand { Self::Off } else { Self::First(index, FIRST_BYTES) };
        }
        let named = stream.content_type().and_then(Format::from_content_type);
        if named == Some(Format::Lines) {
            // Lines are found when a reader joins.
            return Self::Off;
        }
        if named.is_some() {
            return Self::First(Index::begin(stream, named), FIRST_BYTES);
        }
        if start >= Format::SNIFF_BYTES as u64 {
            return Self::Off;
        }
        let first = first_bytes(stream);
        match Format::sniff(&first) {
            Some(format) => {
                stream.recognise(format.content_type_of(&first));
                Self::First(Index::begin(stream, Some(format)), FIRST_BYTES)
            }
            None if Format::may_follow(&first) => Self::Undecided,
            None => Self::Off,
        }
    }
}

/// The first bytes of a stream, at most as many as are needed to recognise a format. Empty if they
/// are gone.
fn first_bytes(stream: &Stream) -> Vec<u8> {
    let mut run = Run::default();
    if let Ok(mut scan) = stream.scan(0) {
        while run.bytes.len() < Format::SNIFF_BYTES
            && let Ok(Some(Read::Data { .. })) = scan.read(&mut run, Format::SNIFF_BYTES)
        {}
    }
    run.bytes.truncate(Format::SNIFF_BYTES);
    run.bytes
}

/// Maximum number of bytes that the ring of a stream may hold.
fn capacity(stream: &Stream) -> u64 {
    let config = stream.config();
    config.ring_buffer_size.max(config.channel_buffer_size)
}

impl Index {
    /// Returns the index of a stream, if the stream has one.
    pub(crate) fn of(stream: &Stream) -> Option<Arc<Self>> {
        stream.existing_extension()
    }

    /// Begins to index a stream. Without a format, a writer names the header and the sync points.
    fn begin(stream: &Stream, format: Option<Format>) -> Arc<Self> {
        let index = stream.extension::<Self>();
        index.lock().get_or_insert_with(|| Indexed::new(format, capacity(stream)));
        index
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Indexed>> {
        self.indexed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scans once. Returns whether there is more to scan before `target`.
    fn scan(&self, stream: &Stream, target: u64) -> bool {
        self.lock().as_mut().is_some_and(|indexed| indexed.scan(stream, target))
    }

    /// Scans up to head as it is now.
    fn complete_now(&self, stream: &Stream) {
        let target = stream.extent().head;
        while self.scan(stream, target) {}
    }

    /// Scans up to head as it is now, and lets other tasks run meanwhile.
    pub(crate) async fn complete(&self, stream: &Stream) {
        let target = stream.extent().head;
        while self.scan(stream, target) {
            yield_now().await;
        }
    }

    /// Scans up to head in a separate task, unless such a task runs already.
    pub(crate) fn schedule(self: &Arc<Self>, stream: Stream) {
        if !self.is_scheduled.swap(true, Relaxed) {
            let index = Arc::clone(self);
            tokio::spawn(async move {
                index.complete(&stream).await;
                index.is_scheduled.store(false, Relaxed);
            });
        }
    }

    /// Scans what one of a writer's first appends has added. If much else was not scanned yet, a
    /// separate task scans it.
    fn follow(self: &Arc<Self>, stream: Stream) {
        let position = self.lock().as_ref().map_or(u64::MAX, Indexed::position);
        if stream.extent().head.saturating_sub(position) > FIRST_BYTES {
            self.schedule(stream);
        } else {
            self.complete_now(&stream);
        }
    }

    /// Schedules a scan of a leased stream, if it has an index.
    pub(crate) fn catch_up(writer: &Writer) {
        let stream = writer.stream();
        if let Some(index) = Self::of(&stream) {
            index.schedule(stream);
        }
    }

    /// Sets the header that a writer names. The header is in the stream at these offsets.
    fn set_header(stream: &Stream, header: Bytes, at: Range<u64>) {
        let index = Self::begin(stream, None);
        if let Some(indexed) = index.lock().as_mut() {
            indexed.set_header(stream, header, at);
        }
    }

    /// Adds a sync point that a writer has marked.
    pub(crate) fn mark(stream: &Stream, point: u64) {
        let index = Self::begin(stream, None);
        if let Some(indexed) = index.lock().as_mut() {
            indexed.mark(stream, point);
        }
    }

    /// The newest header.
    fn header(&self) -> Option<Bytes> {
        self.lock().as_ref().and_then(Indexed::header)
    }

    /// Returns how a reader with this start joins. `None` if the reader gets exact bytes.
    /// [Complete](Self::complete) the index first.
    ///
    /// # Errors
    ///
    /// [`AttachError::PastHead`].
    fn join(&self, stream: &Stream, start: Start) -> Result<Option<Joined>, AttachError> {
        let place = stream.locate(start)?;
        let tail = stream.extent().tail;
        let chunk = stream.chunk_at(place);
        Ok(self.lock().as_ref().and_then(|indexed| indexed.join(start, place, chunk, tail)))
    }
}

/// Adds what the index knows about the media of a stream to the stats of the stream.
pub(crate) async fn describe(stream: &Stream, stat: &mut StreamStat) {
    let Some(index) = Index::of(stream) else { return };
    index.complete(stream).await;
    let known = index.lock().as_ref().and_then(|indexed| indexed.stat(stream));
    stat.media = known.map(Box::new);
}

/// Returns how a reader with this start joins. `None` if the reader gets exact bytes.
///
/// # Errors
///
/// [`AttachError::PastHead`].
pub(crate) async fn join(
    stream: &Stream,
    how: Join,
    start: Start,
) -> Result<Option<Joined>, AttachError> {
    if how == Join::Raw {
        return Ok(None);
    }
    if let Some(index) = Index::of(stream) {
        index.complete(stream).await;
        let joined = index.join(stream, start)?;
        if joined.as_ref().is_some_and(|joined| joined.format.is_none_or(Format::is_media)) {
            return Ok(joined);
        }
    }
    if how == Join::Sync { lines::join(stream, start) } else { Ok(None) }
}
