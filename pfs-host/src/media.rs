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
mod named;
mod points;
mod run;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use pfs_media::Format;
use pfs_proto::{Join, Origin, Start};
use pfs_stream::{AttachError, Read, Stream, StreamStat, Writer};
use tokio::task::yield_now;

use self::{indexed::Indexed, named::Named, run::Run};

pub use self::indexed::Joined;
pub(crate) use self::marks::{HeaderTooLarge, Marks};

/// Number of bytes after which a writer's appends are no longer followed by a scan each.
const FIRST_BYTES: u64 = 1024 * 1024;

/// Divisor of the ring size: later, a scan begins when this part of the ring was appended since the
/// last scan began.
const LATER_SHARE: u64 = 8;

/// The media index of a stream: an extension of the stream.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: Mutex<Known>,
    /// Whether a task completes the index.
    is_scheduled: AtomicBool,
}

/// What an index holds.
#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// What was found in the contents.
    Parsed(Indexed),
    /// What writers have named.
    Named(Named),
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
        let index = Index::of(stream);
        if let Some(index) = &index {
            match &*index.lock() {
                Known::Parsed(_) => return Self::First(Arc::clone(index), FIRST_BYTES),
                Known::Named(named) if !named.is_tentative => return Self::Off,
                Known::Named(_) | Known::Nothing => {}
            }
        }
        let decided = Self::recognise(stream, start);
        if let (Self::Off, Some(index)) = (&decided, index) {
            index.is_decided();
        }
        decided
    }

    fn recognise(stream: &Stream, start: u64) -> Self {
        match stream.content_type().and_then(Format::from_content_type) {
            // Lines are found when a reader joins.
            Some(Format::Lines) => return Self::Off,
            Some(format) => return Self::First(Index::begin(stream, format), FIRST_BYTES),
            None => {}
        }
        if start >= Format::SNIFF_BYTES as u64 {
            return Self::Off;
        }
        let first = first_bytes(stream);
        match Format::sniff(&first) {
            Some(format) => {
                stream.recognise(format.content_type_of(&first));
                Self::First(Index::begin(stream, format), FIRST_BYTES)
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

    /// Begins to index a stream in this format.
    fn begin(stream: &Stream, format: Format) -> Arc<Self> {
        let index = stream.extension::<Self>();
        let mut known = index.lock();
        if !matches!(*known, Known::Parsed(_)) {
            *known = Known::Parsed(Indexed::new(format, capacity(stream)));
        }
        drop(known);
        index
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The format of the stream will not be recognised any more.
    fn is_decided(&self) {
        if let Known::Named(named) = &mut *self.lock() {
            named.is_tentative = false;
        }
    }

    /// Scans once. Returns whether there is more to scan before `target`.
    fn scan(&self, stream: &Stream, target: u64) -> bool {
        match &mut *self.lock() {
            Known::Parsed(indexed) => indexed.scan(stream, target),
            Known::Named(_) | Known::Nothing => false,
        }
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
        let position = match &*self.lock() {
            Known::Parsed(indexed) => indexed.position(),
            Known::Named(_) | Known::Nothing => u64::MAX,
        };
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

    /// Begins to index a replica whose first byte is at offset `begin`.
    fn begin_behind(stream: &Stream, origin: &Origin, begin: u64) {
        let capacity = capacity(stream);
        let known = match Format::from_content_type(&origin.format) {
            Some(format) => match Indexed::behind(format, origin, begin, capacity) {
                Some(indexed) => Known::Parsed(indexed),
                None => return,
            },
            None => Known::Named(Named::behind(origin.header.clone(), begin, capacity)),
        };
        *stream.extension::<Self>().lock() = known;
    }

    /// A writer that names its header has appended the first byte of the header at this offset.
    fn begin_header(stream: &Stream, begin: u64) {
        let index = stream.extension::<Self>();
        let mut known = index.lock();
        if !matches!(&*known, Known::Named(named) if !named.is_tentative) {
            *known = Known::Named(Named::new(capacity(stream)));
        }
        if let Known::Named(named) = &mut *known {
            named.begin_header(stream, begin);
        }
    }

    /// Completes a header that begins at `begin` and ends at `end`.
    fn end_header(stream: &Stream, header: Bytes, begin: u64, end: u64) {
        let index = Self::of(stream);
        if let Some(index) = index
            && let Known::Named(named) = &mut *index.lock()
        {
            named.end_header(stream, header, begin, end);
        }
    }

    /// Forgets a header whose writer has left before it was complete.
    fn cancel_header(stream: &Stream, begin: u64) {
        let index = Self::of(stream);
        if let Some(index) = index
            && let Known::Named(named) = &mut *index.lock()
        {
            named.cancel_header(begin);
        }
    }

    /// Adds a sync point that a writer has marked, unless the format is recognised.
    pub(crate) fn mark(stream: &Stream, point: u64) {
        let index = stream.extension::<Self>();
        let mut known = index.lock();
        if let Known::Nothing = *known {
            let is_tentative =
                stream.content_type().is_none() && Format::may_follow(&first_bytes(stream));
            let mut named = Named::new(capacity(stream));
            named.is_tentative = is_tentative;
            *known = Known::Named(named);
        }
        if let Known::Named(named) = &mut *known {
            named.mark(stream, point);
        }
    }

    /// The newest header.
    fn header(&self) -> Option<Bytes> {
        match &*self.lock() {
            Known::Parsed(indexed) => indexed.header(),
            Known::Named(named) => named.header(),
            Known::Nothing => None,
        }
    }

    /// Whether the ring holds a sync point that a writer has marked.
    fn has_marks(&self) -> bool {
        matches!(&*self.lock(), Known::Named(named) if named.has_point())
    }

    /// Returns how a reader with this start joins. `None` if the reader gets exact bytes.
    /// [Complete](Self::complete) the index first.
    ///
    /// # Errors
    ///
    /// [`AttachError::PastHead`].
    fn join(&self, stream: &Stream, start: Start) -> Result<Option<Joined>, AttachError> {
        let place = stream.locate(start)?;
        Ok(match &mut *self.lock() {
            Known::Parsed(indexed) => indexed.join(start, place, stream.extent().tail),
            Known::Named(named) => named.join(stream, start, place),
            Known::Nothing => None,
        })
    }
}

/// Adds what the index knows about the media of a stream to the stats of the stream.
pub(crate) async fn describe(stream: &Stream, stat: &mut StreamStat) {
    let Some(index) = Index::of(stream) else { return };
    index.complete(stream).await;
    let media = match &mut *index.lock() {
        Known::Parsed(indexed) => indexed.stat(stream),
        Known::Named(named) => named.stat(stream),
        Known::Nothing => None,
    };
    stat.media = media.map(Box::new);
}

/// How a link keeps the index of its replica up to date, with what the owner knows of the media.
/// The first byte of the replica is at offset `begin`.
pub(crate) fn replicated(stream: &Stream, origin: &Origin, begin: u64) -> Indexing {
    if begin > 0 && (!origin.format.is_empty() || !origin.header.is_empty()) {
        Index::begin_behind(stream, origin, begin);
    }
    Indexing::default()
}

/// What a replica of the stream must know about its media: the format, the oldest sync point, and
/// the header in effect there.
pub(crate) async fn known(stream: &Stream) -> Option<Joined> {
    let index = Index::of(stream)?;
    index.complete(stream).await;
    index.join(stream, Start::Tail(u64::MAX)).ok()?
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
        // Text without a marked sync point has lines.
        let has_lines = how == Join::Sync && !index.has_marks();
        match joined.as_ref().map(|joined| joined.format) {
            Some(Some(format)) if format.is_media() => return Ok(joined),
            Some(None) => {
                let lines = if has_lines { lines::join(stream, start)? } else { None };
                return Ok(lines.or(joined));
            }
            _ => {}
        }
    }
    if how == Join::Sync { lines::join(stream, start) } else { Ok(None) }
}
