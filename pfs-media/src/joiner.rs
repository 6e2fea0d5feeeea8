//! Joiner: turns the bytes that a reader receives into bytes that a decoder can use.

use std::{collections::VecDeque, fmt, ops::Range};

use bytes::Bytes;

use crate::{Format, IndexError, Indexer, Mark};

/// Maximum number of bytes that are held during a search. Larger than the distance from a sync
/// point to the bytes by which a parser recognises the sync point.
pub const MAX_SEARCHED_BYTES: usize = 2 * 1024 * 1024;

/// Largest unit that is delivered whole, in bytes. A larger one is delivered as it arrives.
const MAX_WHOLE_BYTES: usize = 16 * 1024 * 1024;

/// What a joined reader delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Bytes of the stream.
    Bytes(Bytes),
    /// The search for the reader's first sync point has ended: one was found, or there is none. The
    /// header comes before the bytes that follow, and is empty if a decoder needs none there. The
    /// reader skipped these offsets.
    Joined(Bytes, Range<u64>),
    /// These offsets are missing: the lost ones, and those before and after the loss that a decoder
    /// cannot use.
    Gap {
        /// First missing offset.
        from: u64,
        /// Offset after the last missing byte.
        to: u64,
        /// Number of lost chunks; 0 if unknown.
        chunks: u64,
    },
    /// A header that a decoder needs before the bytes that follow, because the header in the stream
    /// was lost. These bytes are not counted in any offset.
    Header(Bytes),
    /// A writer has started over at this offset, with a header that a decoder does not accept in
    /// the middle of its input.
    FormatChanged(u64),
}

/// Follows a stream for one reader. After a loss, continues at the next sync point. Delivers a
/// fragment of MP4 or a picture of YUV4MPEG2 whole or not at all.
///
/// Bytes of a stream without a known format are delivered as they are.
pub struct Joiner {
    contents: Contents,
    /// Format of contents that are not recognised.
    fallback: Option<Format>,
    /// Offset after the bytes that were received.
    position: u64,
    /// Whether a header or a sync point was found. A signature in a later chunk is then a new
    /// beginning, and not a part of the header.
    has_begun: bool,
    search: Option<Search>,
    /// Received bytes that were not delivered yet, which end at `position`.
    held: VecDeque<Bytes>,
    held_bytes: usize,
    /// The header in effect.
    header: Bytes,
    /// Offset of the first sync point and distance, if sync points are at equal distances.
    every: Option<(u64, u64)>,
    /// End of a unit that is too large to be delivered whole.
    passing: u64,
    /// Offsets where the stream may be cut between two units: the last one that was reached, and
    /// the next one.
    cuts: (u64, u64),
}

impl fmt::Debug for Joiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joiner")
            .field("position", &self.position)
            .field("search", &self.search)
            .field("held", &self.held_bytes)
            .field("header", &self.header.len())
            .finish_non_exhaustive()
    }
}

enum Contents {
    /// The first bytes, which do not tell the format yet.
    Undecided(Vec<u8>),
    Known(Box<Indexer>),
    Unknown,
}

/// Search for a sync point.
#[derive(Debug)]
struct Search {
    /// The first missing offset.
    from: u64,
    chunks: u64,
    /// Whether the search is for the reader's first sync point, and not for one after a loss.
    is_first: bool,
    /// Whether the reader still needs the header in effect, because it joins, or because another
    /// header was found during the search.
    needs_header: bool,
    /// The sync point, if it is known in advance.
    point: Option<u64>,
}

impl Joiner {
    /// Follows a stream from its first byte on. Without a format, recognises the format by the
    /// first bytes.
    pub fn from_begin(format: Option<Format>) -> Self {
        let contents = match format {
            Some(format) => Contents::Known(Box::new(Indexer::new(format, 0))),
            None => Contents::Undecided(Vec::new()),
        };
        Self::new(contents, 0)
    }

    /// Sets the format to use if none is recognised. Call this before the first bytes.
    #[must_use]
    pub fn or(self, format: Format) -> Self {
        Self { fallback: Some(format), ..self }
    }

    /// Follows a stream from a sync point on, to which this header applies.
    pub fn from_sync_point(format: Format, header: Bytes, at: u64) -> Self {
        let mut marks = Vec::new();
        let contents = match Indexer::behind(format, &header, at, &mut marks) {
            Some(indexer) => Contents::Known(Box::new(indexer)),
            None => Contents::Unknown,
        };
        let every = marks.into_iter().find_map(|mark| match mark {
            Mark::SyncEvery(first, step) => Some((first, step)),
            _ => None,
        });
        Self { header, every, ..Self::new(contents, at) }
    }

    /// Follows contents of no known format from offset `at` on. All bytes pass through unexamined.
    pub fn unknown(at: u64) -> Self {
        Self::new(Contents::Unknown, at)
    }

    /// Looks for the first sync point from offset `at` on.
    pub fn searching(format: Format, header: Bytes, at: u64) -> Self {
        let mut joiner = Self::from_sync_point(format, header, at);
        if let Contents::Known(indexer) = &mut joiner.contents {
            indexer.skip_to(at);
        }
        joiner.search(at, at, 0, true);
        joiner
    }

    fn new(contents: Contents, position: u64) -> Self {
        Self {
            contents,
            fallback: None,
            position,
            has_begun: position > 0,
            search: None,
            held: VecDeque::new(),
            held_bytes: 0,
            header: Bytes::new(),
            every: None,
            passing: 0,
            cuts: (position, position),
        }
    }

    /// Offset after everything that was delivered.
    pub fn position(&self) -> u64 {
        let missing = self.search.as_ref().map(|search| search.from);
        missing.unwrap_or(self.position.saturating_sub(self.held_bytes as u64))
    }

    /// Whether bytes pass through unexamined from now on.
    pub fn is_idle(&self) -> bool {
        matches!(self.contents, Contents::Unknown) && self.search.is_none() && self.held.is_empty()
    }

    /// Receives a chunk.
    pub fn chunk(&mut self, chunk: Bytes, out: &mut VecDeque<Delivery>) {
        if let Contents::Known(indexer) = &self.contents
            && self.has_begun
            && let Some(format) = Format::from_signature(&chunk)
        {
            let is_accepted = format == indexer.format() && format.accepts_new_header();
            self.start_over(format, is_accepted, out);
        }
        self.part(chunk, out);
    }

    /// A writer starts over in the next chunk.
    fn start_over(&mut self, format: Format, is_accepted: bool, out: &mut VecDeque<Delivery>) {
        self.release(self.position, out);
        if self.search.is_some() {
            // The header is in the chunk.
            self.found(self.position, Bytes::new(), out);
        }
        if !is_accepted {
            out.push_back(Delivery::FormatChanged(self.position));
        }
        self.contents = Contents::Known(Box::new(Indexer::new(format, self.position)));
        (self.every, self.passing) = (None, 0);
        (self.cuts, self.has_begun) = ((self.position, self.position), false);
    }

    /// Receives bytes that are not known to begin a chunk, so that a signature is ignored.
    pub fn part(&mut self, bytes: Bytes, out: &mut VecDeque<Delivery>) {
        if bytes.is_empty() {
            return;
        }
        let first = self.sniff(&bytes);
        self.position = self.position.saturating_add(bytes.len() as u64);
        self.held_bytes = self.held_bytes.saturating_add(bytes.len());
        let fed = self.feed(first.as_deref().unwrap_or(&bytes));
        self.held.push_back(bytes);
        match fed {
            Ok(found) => {
                if let Some((point, header)) = found {
                    self.found(point, header, out);
                }
            }
            Err(_) => self.contents = Contents::Unknown,
        }
        self.give_up(out);
        if self.search.is_some() {
            self.forget();
        } else {
            let whole = self.whole();
            self.release(whole, out);
        }
    }

    /// Recognises the format from the first bytes. Returns the bytes to parse if they are not those
    /// that have just arrived.
    fn sniff(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Contents::Undecided(first) = &mut self.contents else { return None };
        first.extend_from_slice(bytes);
        let known = first.get(..Format::SNIFF_BYTES).unwrap_or(first);
        let may_follow = Format::may_follow(known);
        let sniffed = Format::sniff(known);
        if let Some(format) = sniffed.or(self.fallback.filter(|_| !may_follow)) {
            let first = std::mem::take(first);
            self.contents = Contents::Known(Box::new(Indexer::new(format, 0)));
            return Some(first);
        }
        if !may_follow {
            self.contents = Contents::Unknown;
        }
        None
    }

    /// Parses bytes. Returns the sync point that ends the search, and the header that the reader
    /// needs there; empty if it needs none.
    fn feed(&mut self, bytes: &[u8]) -> Result<Option<(u64, Bytes)>, IndexError> {
        let Contents::Known(indexer) = &mut self.contents else { return Ok(None) };
        let mut marks = Vec::new();
        let fed = indexer.feed(bytes, &mut marks);
        let mut found = None;
        for mark in marks {
            self.has_begun = true;
            match mark {
                Mark::Header(header) => {
                    if let Some(search) = self.search.as_mut().filter(|_| found.is_none()) {
                        search.needs_header |= header != self.header;
                    }
                    self.header = header;
                }
                Mark::Sync(point) => {
                    if let Some(search) = self.search.as_ref().filter(|_| found.is_none()) {
                        let header = search.needs_header.then(|| self.header.clone());
                        found = Some((point, header.unwrap_or_default()));
                    }
                }
                Mark::SyncEvery(first, step) => self.every = Some((first, step)),
                Mark::Cut(at) => self.cuts = (self.cuts.1, at),
            }
        }
        let known = self.search.as_ref().and_then(|search| search.point);
        let arrived = known.filter(|point| *point <= self.position);
        let arrived = arrived.map(|point| (point, Bytes::new()));
        fed.map(|()| found.or(arrived))
    }

    /// Offset up to which whole units have arrived.
    fn whole(&mut self) -> u64 {
        let has_cuts = match &self.contents {
            Contents::Known(indexer) => indexer.format().has_cuts(),
            Contents::Undecided(_) | Contents::Unknown => false,
        };
        if self.held_bytes > MAX_WHOLE_BYTES {
            // The end of the unit may not be known yet.
            self.passing = self.cuts.1.max(self.position);
            return self.position;
        }
        if !has_cuts || self.position < self.passing {
            return self.position;
        }
        if self.cuts.1 <= self.position { self.cuts.1 } else { self.cuts.0 }
    }

    /// Receives a loss.
    pub fn gap(&mut self, from: u64, to: u64, chunks: u64, out: &mut VecDeque<Delivery>) {
        match &mut self.contents {
            Contents::Known(indexer) => indexer.skip_to(to),
            Contents::Undecided(_) => self.contents = Contents::Unknown,
            Contents::Unknown => {}
        }
        if matches!(self.contents, Contents::Unknown) {
            self.give_up(out);
            self.release(self.position, out);
            self.position = to;
            out.push_back(Delivery::Gap { from, to, chunks });
            return;
        }
        // Bytes that are still held are an incomplete unit.
        let from = self.position().min(from);
        self.search(from, to, chunks, false);
    }

    /// Begins or extends a search.
    fn search(&mut self, from: u64, to: u64, chunks: u64, is_first: bool) {
        self.held.clear();
        (self.held_bytes, self.position) = (0, to);
        (self.cuts, self.passing) = ((to, to), 0);
        let point = self.every.and_then(|(first, step)| {
            first.checked_add(to.saturating_sub(first).checked_next_multiple_of(step)?)
        });
        let search = self.search.get_or_insert(Search {
            from,
            chunks: 0,
            is_first,
            needs_header: is_first,
            point: None,
        });
        search.chunks = search.chunks.saturating_add(chunks);
        search.point = point;
    }

    /// Ends a search at this sync point.
    fn found(&mut self, point: u64, header: Bytes, out: &mut VecDeque<Delivery>) {
        let begin = self.position.saturating_sub(self.held_bytes as u64);
        // A sync point before the bytes that are held cannot be delivered.
        if point < begin {
            return;
        }
        let Some(Search { from, chunks, is_first, .. }) = self.search.take() else { return };
        self.drop_held(point.saturating_sub(begin));
        if is_first {
            out.push_back(Delivery::Joined(header, from..point));
        } else {
            if point > from {
                out.push_back(Delivery::Gap { from, to: point, chunks });
            }
            if !header.is_empty() {
                out.push_back(Delivery::Header(header));
            }
        }
    }

    /// Ends a search in contents that cannot be parsed, so that all held bytes can be delivered.
    fn give_up(&mut self, out: &mut VecDeque<Delivery>) {
        if matches!(self.contents, Contents::Unknown) && self.search.is_some() {
            let begin = self.position.saturating_sub(self.held_bytes as u64);
            self.found(begin, Bytes::new(), out);
        }
    }

    /// Forgets the oldest held bytes of a search.
    fn forget(&mut self) {
        let beyond = self.held_bytes.saturating_sub(MAX_SEARCHED_BYTES);
        self.drop_held(beyond as u64);
    }

    fn drop_held(&mut self, count: u64) {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX).min(self.held_bytes);
        self.held_bytes -= left;
        while let Some(first) = self.held.front_mut().filter(|_| left > 0) {
            let len = left.min(first.len());
            let _ = first.split_to(len);
            left -= len;
            if first.is_empty() {
                self.held.pop_front();
            }
        }
    }

    /// Delivers the held bytes before `offset`, unless a search is under way.
    fn release(&mut self, offset: u64, out: &mut VecDeque<Delivery>) {
        if self.search.is_some() {
            return;
        }
        let begin = self.position.saturating_sub(self.held_bytes as u64);
        let mut left = usize::try_from(offset.saturating_sub(begin)).unwrap_or(usize::MAX);
        while let Some(first) = self.held.front_mut().filter(|_| left > 0) {
            let bytes = first.split_to(left.min(first.len()));
            left -= bytes.len();
            self.held_bytes -= bytes.len();
            if first.is_empty() {
                self.held.pop_front();
            }
            out.push_back(Delivery::Bytes(bytes));
        }
    }

    /// The stream has ended, or reading has failed: nothing follows.
    pub fn end(&mut self, out: &mut VecDeque<Delivery>) {
        self.release(self.position, out);
        if self.search.is_some() {
            self.drop_held(u64::MAX);
            self.found(self.position, Bytes::new(), out);
        }
    }
}
