//! Contents of a media index: headers and sync points of a stream in a known format.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use pfs_media::{Format, Indexer, Mark};
use pfs_proto::{MediaStat, Start};
use pfs_stream::{Read, Stream};

use super::run::Run;
use crate::daemon::wide;

/// Bytes of one scan.
const SCAN_BYTES: usize = 256 * 1024;

/// Maximum number of sync points that are kept, about: of two that are closer than the ring size
/// divided by this number, only the first is kept, and the newest of all.
const MAX_POINTS: u64 = 1024;

/// Maximum number of headers that are kept.
const MAX_HEADERS: usize = 16;

/// Memory of an index without headers and sync points, in bytes.
const INDEX_BYTES: usize = 1024;

/// Index of a stream.
#[derive(Debug)]
pub(super) struct Indexed {
    /// `None` if a writer names the header and the sync points itself.
    pub(super) format: Option<Format>,
    /// `None` if there is no format, and once the contents could not be parsed.
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
    /// Sync points, in order.
    points: VecDeque<u64>,
    /// The newest sync point, and the one before it.
    newest: Option<u64>,
    before: Option<u64>,
    /// Offset of the first sync point and distance, if sync points are at equal distances.
    every: Option<(u64, u64)>,
    /// Offsets between which every chunk is a sync point.
    chunks: Range<u64>,
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
    /// The sync point where the reader starts instead. `None` if the stream holds no sync point;
    /// the reader then starts at `place` and looks for the next sync point.
    pub start: Option<u64>,
}

impl Part {
    fn add(&mut self, point: u64, distance: u64) {
        let last = self.points.back();
        if last.is_none_or(|last| point.saturating_sub(*last) >= distance) {
            self.points.push_back(point);
        }
        self.before = self.newest.replace(point);
    }

    /// Forgets the sync points before `tail`. Returns whether any are left.
    fn forget_before(&mut self, tail: u64) -> bool {
        let gone = self.points.partition_point(|point| *point < tail);
        self.points.drain(..gone);
        self.newest = self.newest.filter(|newest| *newest >= tail);
        if let Some(newest) = self.newest.filter(|_| self.points.is_empty()) {
            self.points.push_back(newest);
        }
        self.every.is_some() || self.newest.is_some() || self.chunks.end > tail
    }

    /// The first sync point from `offset` on.
    fn first_from(&self, offset: u64) -> Option<u64> {
        if let Some((first, step)) = self.every {
            let steps = offset.saturating_sub(first).checked_next_multiple_of(step)?;
            return first.checked_add(steps);
        }
        if !self.chunks.is_empty() {
            return Some(self.chunks.start.max(offset)).filter(|at| self.chunks.contains(at));
        }
        let at = self.points.partition_point(|point| *point < offset);
        self.points.get(at).copied().or(self.newest.filter(|newest| *newest >= offset))
    }

    /// The last sync point up to `offset`.
    fn last_up_to(&self, offset: u64) -> Option<u64> {
        if let Some((first, step)) = self.every {
            let beyond = offset.checked_sub(first)?.checked_rem(step)?;
            return offset.checked_sub(beyond);
        }
        if self.chunks.contains(&offset) {
            return Some(offset);
        }
        if let Some(newest) = self.newest.filter(|newest| *newest <= offset) {
            return Some(newest);
        }
        let after = self.points.partition_point(|point| *point <= offset);
        self.points.get(after.checked_sub(1)?).copied()
    }

    fn memory(&self) -> usize {
        let points = self.points.capacity().saturating_mul(size_of::<u64>());
        self.header.len().saturating_add(points).saturating_add(size_of::<Self>())
    }
}

impl Indexed {
    /// Creates the index of a stream. Without a format, a writer names the header and the sync
    /// points.
    pub(super) fn new(format: Option<Format>, capacity: u64) -> Self {
        Self {
            format,
            indexer: format.map(|format| Indexer::new(format, 0)),
            has_begun: false,
            position: 0,
            parts: VecDeque::new(),
            distance: capacity / MAX_POINTS,
        }
    }

    /// Offset after the bytes that were scanned.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Sets the header of a writer that names it. The header is in the stream at these offsets.
    /// Every later chunk is a sync point until the writer marks one.
    pub(super) fn set_header(&mut self, stream: &Stream, header: Bytes, at: Range<u64>) {
        if self.format.take().is_some() {
            (self.indexer, self.parts) = Default::default();
        }
        if let Some(before) = self.parts.back_mut() {
            before.chunks.end = before.chunks.end.min(at.start);
        }
        self.parts.push_back(Part { header, chunks: at.end..u64::MAX, ..Part::default() });
        self.limit_headers();
        self.forget_before(stream.extent().tail);
        self.keep(stream);
    }

    /// Adds a sync point that a writer has marked.
    pub(super) fn mark(&mut self, stream: &Stream, point: u64) {
        let is_parsed = self.indexer.is_some() && self.format.is_some_and(Format::is_media);
        if !is_parsed {
            (self.format, self.indexer) = (None, None);
        }
        let distance = self.distance;
        let part = self.part();
        part.chunks = Range::default();
        if part.newest.is_none_or(|newest| newest < point) {
            part.add(point, distance);
        }
        self.forget_before(stream.extent().tail);
        self.keep(stream);
    }

    /// Reserves the memory of the index, or else turns the index off.
    fn keep(&mut self, stream: &Stream) {
        if !self.reserve(stream) {
            self.turn_off(stream);
        }
    }

    fn turn_off(&mut self, stream: &Stream) {
        tracing::debug!(stream = stream.name(), format = ?self.format, "index off");
        (self.indexer, self.parts) = Default::default();
        // Giving memory back cannot fail.
        let _ = stream.keep(0);
    }

    fn limit_headers(&mut self) {
        if self.parts.len() > MAX_HEADERS {
            self.parts.pop_front();
        }
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
        if is_understood {
            self.keep(stream);
        } else {
            self.turn_off(stream);
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
                if Some(format) != self.format || !format.accepts_new_header() {
                    self.parts.clear();
                }
                self.format = Some(format);
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
                    self.limit_headers();
                }
                Mark::Sync(point) => self.part().add(point, distance),
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
        let format = match self.format {
            Some(format) if self.indexer.is_some() && format.is_media() => format.name(),
            None if !self.parts.is_empty() => "custom",
            _ => return None,
        };
        let part = self.parts.back();
        let newest = part.and_then(|part| match part.every {
            Some(_) => part.last_up_to(self.position),
            None => part.newest,
        });
        let before = part.and_then(|part| part.before);
        let time = |point: Option<u64>| stream.appended_at(point?);
        let stat = MediaStat {
            format: format.to_owned(),
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

    /// Returns how a reader joins that would otherwise start at `place`, in the chunk that begins at
    /// `chunk`. `None` if the reader gets exact bytes.
    pub(super) fn join(&self, start: Start, place: u64, chunk: u64, tail: u64) -> Option<Joined> {
        let format = self.format;
        let is_on = if format.is_some() { self.indexer.is_some() } else { !self.parts.is_empty() };
        if !is_on || matches!(start, Start::Offset(_)) {
            return None;
        }
        let from_begin = Joined { format, header: Bytes::new(), place, start: Some(0) };
        if place == 0 {
            return Some(from_begin);
        }
        // Without a format, nothing is scanned, and sync points are at the beginning of chunks.
        let (position, near) =
            if format.is_some() { (self.position, place) } else { (u64::MAX, chunk) };
        let join = |part: &Part, point: Option<u64>| {
            let is_held = |point: &u64| *point >= tail && *point <= position;
            let start = point.filter(is_held);
            let header = part.header.clone();
            start.map(|_| Joined { format, header, place, start })
        };
        let after = || self.parts.iter().find_map(|part| join(part, part.first_from(place)));
        let before = || self.parts.iter().rev().find_map(|part| join(part, part.last_up_to(near)));
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
