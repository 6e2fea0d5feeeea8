//! Contents of a media index: headers and sync points of a stream in a known format.

use std::collections::VecDeque;

use bytes::Bytes;
use pfs_media::{Format, Indexer, Mark};
use pfs_proto::{MediaStat, Origin, Start};
use pfs_stream::{Read, Stream};

use super::{points::Points, run::Run};
use crate::daemon::wide;

/// Bytes of one scan.
const SCAN_BYTES: usize = 256 * 1024;

/// Maximum number of headers that are kept.
const MAX_HEADERS: usize = 16;

/// Memory of an index without headers and sync points, in bytes.
const INDEX_BYTES: usize = 1024;

/// Index of a stream.
#[derive(Debug)]
pub(super) struct Indexed {
    format: Format,
    /// `None` once the contents could not be parsed.
    indexer: Option<Indexer>,
    /// Whether a header or a sync point was found since the writer started, so that a signature is
    /// a beginning and not a part of a header.
    has_begun: bool,
    /// Offset after the bytes that were scanned.
    position: u64,
    /// Headers with the sync points to which they apply, oldest first.
    parts: VecDeque<Part>,
    /// Smallest distance of the sync points that are kept.
    distance: u64,
}

/// A header, and the sync points to which it applies.
#[derive(Debug, Default)]
struct Part {
    header: Bytes,
    points: Points,
    /// Offset of the first sync point and distance, if sync points are at equal distances.
    every: Option<(u64, u64)>,
}

/// How a reader joins media.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The format of the stream. `None` if a writer names the header and the sync points itself.
    pub format: Option<Format>,
    /// The header in effect. Empty if the header is in the stream from `start` on, or if the format
    /// has none.
    pub header: Bytes,
    /// The offset where the reader would have started.
    pub place: u64,
    /// Where the reader starts instead: at a sync point. `None` if the stream holds none; the reader
    /// then starts at `place` and looks for the next sync point. A writer that names sync points is
    /// not waited for: the reader then starts with a chunk.
    pub start: Option<u64>,
}

impl Part {
    /// Forgets the sync points before `tail`. Returns whether any are left.
    fn forget_before(&mut self, tail: u64) -> bool {
        self.points.forget_before(tail);
        self.every.is_some() || self.points.newest.is_some()
    }

    /// The first sync point from `offset` on.
    fn first_from(&self, offset: u64) -> Option<u64> {
        if let Some((first, step)) = self.every {
            let steps = offset.saturating_sub(first).checked_next_multiple_of(step)?;
            return first.checked_add(steps);
        }
        self.points.first_from(offset)
    }

    /// The last sync point up to `offset`.
    fn last_up_to(&self, offset: u64) -> Option<u64> {
        if let Some((first, step)) = self.every {
            let beyond = offset.checked_sub(first)?.checked_rem(step)?;
            return offset.checked_sub(beyond);
        }
        self.points.last_up_to(offset)
    }

    fn memory(&self) -> usize {
        self.header.len().saturating_add(self.points.memory()).saturating_add(size_of::<Self>())
    }
}

impl Indexed {
    pub(super) fn new(format: Format, capacity: u64) -> Self {
        Self::of(Indexer::new(format, 0), capacity)
    }

    /// Creates the index of a replica whose first byte is at offset `begin`. `None` if the header is
    /// not of the format.
    pub(super) fn behind(
        format: Format,
        origin: &Origin,
        begin: u64,
        capacity: u64,
    ) -> Option<Self> {
        let position = origin.first_sync.unwrap_or(begin).max(begin);
        let mut marks = Vec::new();
        let mut indexer = Indexer::behind(format, &origin.header, position, &mut marks)?;
        let every = marks.into_iter().find_map(|mark| match mark {
            Mark::SyncEvery(first, step) => Some((first, step)),
            _ => None,
        });
        if origin.first_sync != Some(position) {
            // The replica begins in the middle of a unit.
            indexer.skip_to(position);
        }
        let part = Part { header: origin.header.clone(), every, ..Part::default() };
        Some(Self {
            has_begun: true,
            position,
            parts: [part].into(),
            ..Self::of(indexer, capacity)
        })
    }

    fn of(indexer: Indexer, capacity: u64) -> Self {
        Self {
            format: indexer.format(),
            indexer: Some(indexer),
            has_begun: false,
            position: 0,
            parts: VecDeque::new(),
            distance: Points::distance(capacity),
        }
    }

    /// Offset after the bytes that were scanned.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Scans about [`SCAN_BYTES`]. Returns whether there is more to scan before `target`.
    pub(super) fn scan(&mut self, stream: &Stream, target: u64) -> bool {
        let Some(indexer) = &mut self.indexer else { return false };
        let Ok(mut scan) = stream.scan(self.position) else { return false };
        let mut run = Run::default();
        run.clear(&scan);
        match scan.read(&mut run, SCAN_BYTES) {
            Ok(Some(Read::Data { .. })) => {}
            Ok(Some(Read::Gap { to, .. })) => {
                indexer.skip_to(to);
                self.position = to;
                return to < target;
            }
            // The stream was removed, its ring is corrupt, or the scan is at head.
            Ok(Some(Read::End(_)) | None) | Err(_) => return false,
        }
        let is_understood = self.take(&run);
        self.position = scan.position();
        self.forget_before(stream.extent().tail);
        if !is_understood || !self.reserve(stream) {
            tracing::debug!(stream = stream.name(), format = %self.format, is_understood, "index off");
            (self.indexer, self.parts) = Default::default();
            // Giving memory back cannot fail.
            let _ = stream.keep(0);
        }
        self.position < target
    }

    /// Indexes a run of bytes. Returns false if the bytes break the format.
    fn take(&mut self, run: &Run) -> bool {
        let mut marks = Vec::new();
        let mut from = 0;
        let mut is_understood = true;
        for start in run.starts.iter().copied().chain([run.bytes.len()]) {
            let chunk = run.bytes.get(start..).unwrap_or_default();
            let offset = self.position.saturating_add(start as u64);
            // Before the header is complete, a signature may be a part of the header.
            let begins = Format::from_signature(chunk).filter(|_| self.has_begun);
            if begins.is_none() && start < run.bytes.len() {
                continue;
            }
            let before = run.bytes.get(from..start).unwrap_or_default();
            from = start;
            if let Some(indexer) = &mut self.indexer {
                is_understood = indexer.feed(before, &mut marks).is_ok();
            }
            self.note(&mut marks);
            if let Some(format) = begins {
                // A writer has started over. If a decoder does not accept the new header in the
                // middle of its input, no reader may join before that header.
                if format != self.format || !format.accepts_new_header() {
                    self.parts.clear();
                }
                self.format = format;
                self.indexer = Some(Indexer::new(format, offset));
                self.has_begun = false;
                is_understood = true;
            }
        }
        is_understood
    }

    fn note(&mut self, marks: &mut Vec<Mark>) {
        let distance = self.distance;
        for mark in marks.drain(..) {
            self.has_begun = true;
            match mark {
                Mark::Header(header) => {
                    let is_known = self.parts.back().is_some_and(|part| part.header == header);
                    if !is_known {
                        self.parts.push_back(Part { header, ..Part::default() });
                    }
                    if self.parts.len() > MAX_HEADERS {
                        self.parts.pop_front();
                    }
                }
                Mark::Sync(point) => self.part().points.add(point, distance),
                Mark::SyncEvery(first, step) => self.part().every = Some((first, step)),
                _ => {}
            }
        }
    }

    /// The newest part: the newest header with its sync points.
    fn part(&mut self) -> &mut Part {
        if self.parts.is_empty() {
            self.parts.push_back(Part::default());
        }
        let newest = self.parts.len().saturating_sub(1);
        &mut self.parts[newest]
    }

    fn forget_before(&mut self, tail: u64) {
        let count = self.parts.len();
        let mut at = 0;
        self.parts.retain_mut(|part| {
            at += 1;
            part.forget_before(tail) || at == count
        });
    }

    /// Reserves the memory of the index. Returns false if a budget has too little left.
    fn reserve(&mut self, stream: &Stream) -> bool {
        let parser = self.indexer.as_ref().map_or(0, Indexer::memory);
        let parts = self.parts.iter().map(Part::memory).fold(INDEX_BYTES, usize::saturating_add);
        let bytes = wide(parser.saturating_add(parts));
        stream.keep(bytes)
    }

    /// What is known about media. `None` for other formats, and once the contents could not be
    /// parsed.
    pub(super) fn stat(&self, stream: &Stream) -> Option<MediaStat> {
        self.indexer.as_ref().filter(|_| self.format.is_media())?;
        let part = self.parts.back();
        let newest = part.and_then(|part| match part.every {
            Some(_) => part.last_up_to(self.position),
            None => part.points.newest,
        });
        let before = part.and_then(|part| part.points.before);
        let time = |point: Option<u64>| stream.appended_at(point?);
        let stat = MediaStat {
            format: self.format.name().to_owned(),
            header_bytes: part.map_or(0, |part| wide(part.header.len())),
            last_sync: newest,
            gop_bytes: newest.zip(before).and_then(|(newest, before)| newest.checked_sub(before)),
            gop: time(newest)
                .zip(time(before))
                .and_then(|(newest, before)| newest.duration_since(before).ok()),
        };
        Some(stat)
    }

    /// The newest header.
    pub(super) fn header(&self) -> Option<Bytes> {
        self.parts.back().map(|part| part.header.clone())
    }

    /// Returns how a reader joins that would otherwise start at `place`. `None` if the reader gets
    /// exact bytes.
    pub(super) fn join(&self, start: Start, place: u64, tail: u64) -> Option<Joined> {
        let (Some(_), false) = (&self.indexer, matches!(start, Start::Offset(_))) else {
            return None;
        };
        let format = Some(self.format);
        let from_begin = Joined { format, header: Bytes::new(), place, start: Some(0) };
        if place == 0 {
            return Some(from_begin);
        }
        let join = |part: &Part, point: Option<u64>| {
            let start = point.filter(|point| (tail..=self.position).contains(point));
            let header = part.header.clone();
            start.map(|_| Joined { format, header, place, start })
        };
        let after = || self.parts.iter().find_map(|part| join(part, part.first_from(place)));
        let before = || self.parts.iter().rev().find_map(|part| join(part, part.last_up_to(place)));
        let found = match start {
            Start::Oldest => after(),
            _ if tail == 0 => return before().or(Some(from_begin)),
            _ => before().or_else(after),
        };
        found.or_else(|| {
            // Wait for a sync point. There will be none before the first header.
            let header = self.header()?;
            Some(Joined { format, header, place, start: None })
        })
    }
}
